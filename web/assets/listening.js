// One channel that the page listens to: the rule of the cursor (docs/PROTOCOL.md, "The client's
// cursor"), and what it takes to hand on each record once. No I/O.

import { Backoff } from './backoff.js';

/** Seqs above the cursor, and ids of records, that are remembered of a channel. */
const SEQS = 4_096;
const IDS = 2_048;

/** @typedef {{type: string, channel: string, seq: number, message_id: string, user: string}} WireRecord */

/** What makes a record the same record: who sent it and the id they gave it. */
export const keyOf = (record) => `${record.user}/${record.message_id}`;

export class Listening {
  /** @param {number|null} since where to go on from, if that is known */
  constructor(since = null) {
    /** 'queued' to be asked, 'asked' with `request`, 'delayed' until `at`, or 'live'. */
    this.phase = 'queued';
    this.request = 0;
    this.at = 0;
    this.backoff = new Backoff();
    /** Everything through here was given; null until the server said where we stand. */
    this.cursor = null;
    this.asked = since;
    /** Seqs above the cursor that were given. */
    this.seen = new Set();
    /** The lowest seq known of each recent record, oldest first. */
    this.ids = new Map();
    this.joinedAt = null;
    this.replaying = false;
  }

  /** The `since` of the next join; null for none. */
  since() {
    return this.cursor ?? this.asked;
  }

  /** The connection is gone, or the server listens no more: to be asked again. */
  disconnected() {
    this.phase = 'queued';
    this.replaying = false;
  }

  /**
   * The server joined us. Gives the `since` that was asked for.
   * @param {{head: number|null, recovered: boolean}} reply
   */
  joined(reply) {
    const asked = this.since();
    if (asked !== null && reply.recovered) {
      this.#advance(asked);
    } else if (reply.head !== null && reply.head !== undefined) {
      // Not the larger one: after a join that could not go on from our cursor the server stands at
      // its head, even if that is lower.
      this.cursor = reply.head;
      this.#forgetThrough(reply.head);
    } else {
      // Nobody knows where we stand. The next join may still go on from the old cursor.
      this.asked = asked;
      this.cursor = null;
    }
    this.joinedAt = reply.head ?? null;
    this.replaying = false;
    this.phase = 'live';
    this.backoff.reset();
    return asked;
  }

  /** The server joined us by itself and says where we stand. */
  placed(head) {
    this.cursor = head ?? null;
    this.joinedAt = head ?? null;
    this.phase = 'live';
  }

  /**
   * A record arrived. Gives `{record, old}`, `{from, to}` for one that turned out to have a lower
   * seq, or null for one that is had already.
   * @param {WireRecord} record
   */
  record(record) {
    const { seq } = record;
    if ((this.cursor !== null && seq <= this.cursor) || this.seen.has(seq)) return null;
    this.#see(seq);
    const key = keyOf(record);
    const known = this.ids.get(key);
    if (known !== undefined) {
      if (known <= seq) return null;
      this.ids.set(key, seq);
      return { from: known, to: seq, key };
    }
    this.ids.set(key, seq);
    if (this.ids.size > IDS) this.ids.delete(this.ids.keys().next().value);
    const old = this.replaying || (this.joinedAt !== null && seq <= this.joinedAt);
    return { record, old };
  }

  /** What follows may repeat. */
  replay() {
    this.replaying = true;
  }

  /** Everything through `seq` has been given. */
  synced(seq) {
    this.replaying = false;
    this.#advance(seq);
  }

  #advance(to) {
    this.cursor = Math.max(this.cursor ?? to, to);
    this.asked = null;
    this.#forgetThrough(this.cursor);
  }

  #forgetThrough(seq) {
    for (const one of this.seen) if (one <= seq) this.seen.delete(one);
  }

  #see(seq) {
    this.seen.add(seq);
    if (this.seen.size > SEQS) this.seen.delete(Math.min(...this.seen));
  }
}
