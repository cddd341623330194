// What is unread: as the server counts it, and what came since.

/** It is asked for at most so often, in ms; so long the first of many askers waits. */
const RECOUNT_MS = 1_000;
/** While the store is behind a join it is asked again this often, in ms. */
export const BEHIND_MS = 5_000;

export class Unread {
  /**
   * @param {object} page
   * @param {() => Promise<object>} page.ask asks the server
   * @param {Map<string, object>} page.places the channels
   * @param {() => string} page.me the person's id
   * @param {() => void} page.counted it was counted
   */
  constructor({ ask, places, me, counted }) {
    this.ask = ask;
    this.places = places;
    this.me = me;
    this.counted = counted;
    this.wanted = false;
    this.counting = false;
  }

  /** Takes what the server has counted. */
  take(answer) {
    for (const one of answer.channels) {
      const place = this.places.get(one.channel);
      if (!place) continue;
      place.read = Math.max(place.read, one.read);
      if (one.last_ts_ms > 0) place.lastMs = one.last_ts_ms;
      // It has not heard how far we are: what was counted here is nearer the truth.
      if (one.read < place.read) continue;
      // What came live and is not stored yet is not in its count.
      place.unread = one.unread + this.#othersAbove(place, Math.max(one.head, one.read));
      place.countedThrough = one.head;
    }
    this.counted();
  }

  /** Asks again, in a moment and once for all who want it by then. */
  async recount() {
    this.wanted = true;
    if (this.counting) return;
    this.counting = true;
    for (let pause = RECOUNT_MS; this.wanted; ) {
      await new Promise((done) => setTimeout(done, pause));
      this.wanted = false;
      pause = RECOUNT_MS;
      if (await this.#now()) continue;
      this.wanted = true;
      pause = BEHIND_MS;
    }
    this.counting = false;
  }

  /** False: it is to be asked again. */
  async #now() {
    try {
      this.take(await this.ask());
    } catch (error) {
      return !error.retryable;
    }
    // What lies between its head and that of a join comes to us in no other way.
    const mine = [...this.places.values()].filter((place) => place.is_member);
    return mine.every((one) => one.joinedAt <= Math.max(one.countedThrough, one.read));
  }

  /** Messages of others above a seq, as far as they are here. */
  #othersAbove(place, seq) {
    const above = (one) => one.type === 'message' && one.seq > seq && one.user !== this.me();
    return place.timeline.list().filter(above).length;
  }
}
