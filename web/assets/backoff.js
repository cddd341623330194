// Delays between attempts: full jitter, uniform between 0 and a bound that doubles with each failure
// in a row up to a cap (docs/PROTOCOL.md, "Close codes").

export class Backoff {
  /**
   * @param {number} first the first bound, in ms
   * @param {number} cap the largest bound, in ms
   */
  constructor(first = 250, cap = 30_000) {
    this.first = first;
    this.cap = cap;
    this.failures = 0;
  }

  /** The largest that the next delay can be without a floor, in ms. */
  bound() {
    return Math.min(this.first * 2 ** Math.min(this.failures, 16), this.cap);
  }

  /**
   * The delay before the next attempt, in ms.
   * @param {() => number} random from 0 to 1
   * @param {number} floor the least that the server asked for; the jitter comes on top of it
   */
  next(random, floor = 0) {
    const delay = floor + random() * this.bound();
    this.failures += 1;
    return delay;
  }

  /** An attempt succeeded. */
  reset() {
    this.failures = 0;
  }
}
