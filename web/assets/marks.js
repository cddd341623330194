// How far this device came, and how much of it the server knows (docs/PROTOCOL.md, "Marks and
// receipts"). Cursors only grow, so a mark is never queued: the newest is what there is to tell. No I/O.

/** The marks of one channel are so far apart, any two so far, in ms. */
const PER_CHANNEL_MS = 1_000;
const ANY_TWO_MS = 50;
/** A server that dies may not have passed on what it took so shortly before, in ms. */
const UNSURE_MS = 5_000;

const nothing = () => ({ delivered: 0, read: 0 });
const differs = (a, b) => a.delivered !== b.delivered || a.read !== b.read;

export class Marks {
  constructor() {
    this.channels = new Map();
    this.nextAt = 0;
  }

  /** This device came so far (seqs; 0 says nothing). */
  advance(channel, delivered, read) {
    let cursor = this.channels.get(channel);
    if (!cursor) {
      cursor = { wanted: nothing(), told: nothing(), toldAt: -Infinity, asked: null, nextAt: 0 };
      this.channels.set(channel, cursor);
    }
    const { wanted } = cursor;
    wanted.read = Math.max(wanted.read, read);
    // What was read was delivered.
    wanted.delivered = Math.max(wanted.delivered, delivered, wanted.read);
  }

  /** The next mark to write, as the fields of its request, or null. */
  next(now) {
    if (now < this.nextAt) return null;
    for (const [channel, cursor] of this.channels) {
      if (!this.#isOpen(cursor) || cursor.nextAt > now) continue;
      cursor.asked = { ...cursor.wanted };
      cursor.nextAt = now + PER_CHANNEL_MS;
      this.nextAt = now + ANY_TWO_MS;
      const mark = { channel, delivered: cursor.wanted.delivered };
      if (cursor.wanted.read > 0) mark.read = cursor.wanted.read;
      return mark;
    }
    return null;
  }

  /** When {@link next} may have something; Infinity: after an event only. */
  nextDue() {
    let due = Infinity;
    for (const cursor of this.channels.values()) {
      if (this.#isOpen(cursor)) due = Math.min(due, Math.max(cursor.nextAt, this.nextAt));
    }
    return due;
  }

  /** The server answered the mark of this channel; `error` is null for an `ok`. */
  onReply(channel, error, now) {
    const cursor = this.channels.get(channel);
    if (!cursor?.asked) return;
    const { asked } = cursor;
    cursor.asked = null;
    if (!error) {
      cursor.told = asked;
      cursor.toldAt = now;
    } else if (error.retryable) {
      cursor.nextAt = now + Math.max(error.retry_after_ms ?? 0, PER_CHANNEL_MS);
    } else {
      // No member any more: not to be asked again before there is something new to tell.
      cursor.told = asked;
    }
  }

  /** The connection is gone: what was asked, or told a moment ago, is told again. */
  disconnected(now) {
    this.nextAt = 0;
    for (const cursor of this.channels.values()) {
      if (now - cursor.toldAt < UNSURE_MS) cursor.told = nothing();
      cursor.asked = null;
      cursor.nextAt = 0;
    }
  }

  /** Nothing of this channel is to be told any more. */
  forget(channel) {
    this.channels.delete(channel);
  }

  #isOpen(cursor) {
    return cursor.asked === null && differs(cursor.wanted, cursor.told);
  }
}
