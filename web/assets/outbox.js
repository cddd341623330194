// Messages and changes on their way, in the order in which they were made: each is sent again, under
// the same id, until the server's answer is definite (docs/PROTOCOL.md, "Requests"). No I/O.

import { Backoff } from './backoff.js';

/** At most so many wait for the log; a server reads no further than 32. */
const WINDOW = 16;
/** At most so many are kept; the page refuses more. */
export const OUTBOX = 1_000;
/** After a `rate_limited` they go one by one for so long, in ms. */
const CALM_MS = 11_000;

/**
 * @typedef {object} Change what a page brings into a channel's log
 * @property {'message'|'edit'|'delete'|'reaction'} type
 * @property {string} [text]
 * @property {number} [thread]
 * @property {number} [target]
 * @property {string} [reaction]
 * @property {boolean} [remove]
 */

export class Outbox {
  /** @param {() => number} random from 0 to 1 */
  constructor(random) {
    this.random = random;
    this.nextOrder = 1;
    /** By order, ascending. */
    this.entries = new Map();
    this.inFlight = 0;
    this.slowUntil = 0;
    this.notBefore = 0;
  }

  /** Whether one more may be pushed. */
  hasRoom() {
    return this.entries.size < OUTBOX;
  }

  /**
   * Takes a change; gives the number by which its settlement is named.
   * @param {string} channel
   * @param {Change} change
   * @param {string} messageId
   * @param {boolean} retry whether a copy of it may be in the log
   */
  push(channel, change, messageId, retry = false) {
    const order = this.nextOrder;
    this.nextOrder += 1;
    this.entries.set(order, {
      order,
      channel,
      change,
      messageId,
      retry,
      inFlight: false,
      written: false,
      at: 0,
      backoff: new Backoff(),
    });
    return order;
  }

  /**
   * The next frame to write, if the window and the delays allow one. `null`: none now.
   * `{settled}` for one that cannot be written at all.
   * @param {number} now in ms
   * @param {number} request id of the request
   * @param {number} maxBytes what the server takes
   */
  next(now, request, maxBytes) {
    const entry = this.#pick(now);
    if (!entry) return null;
    const { channel, change, messageId, retry } = entry;
    const body = { id: request, channel, client_msg_id: messageId, ...change };
    if (retry) body.retry = true;
    const frame = JSON.stringify(body);
    const bytes = new TextEncoder().encode(frame).length;
    if (bytes > maxBytes) {
      // JSON escapes can make a legal text longer than a frame: sending it would end the connection.
      const error = {
        code: 'text_too_long',
        message: `as JSON the message has ${bytes} bytes`,
        outcome: retry ? 'unknown' : 'rejected',
      };
      return { settled: this.#settle(entry, { error }) };
    }
    entry.inFlight = true;
    entry.written = true;
    this.inFlight += 1;
    return { order: entry.order, frame };
  }

  /** When {@link next} may have something that it has not now; Infinity: after an event only. */
  nextDue(now) {
    if (this.inFlight >= this.#window(now)) return Infinity;
    let due = Infinity;
    for (const entry of this.#heads()) due = Math.min(due, Math.max(entry.at, this.notBefore));
    return due;
  }

  /**
   * The server answered. Gives the settlement, or null while it is not over.
   * @param {number} order
   * @param {{ok?: object, error?: object}} reply
   * @param {number} now in ms
   */
  onReply(order, reply, now) {
    const entry = this.entries.get(order);
    if (!entry?.inFlight) return null;
    const { error } = reply;
    if (error && (error.retryable || error.outcome === 'unknown')) {
      entry.inFlight = false;
      this.inFlight -= 1;
      // Only `rejected` says that no copy is in the log.
      if (error.outcome !== 'rejected') entry.retry = true;
      const floor = error.retry_after_ms ?? 0;
      if (error.code === 'rate_limited') {
        this.slowUntil = now + CALM_MS;
        this.notBefore = now + floor;
      } else {
        entry.at = now + entry.backoff.next(this.random, floor);
      }
      return null;
    }
    // The refusal is of this copy; an earlier one may be in the log.
    if (error && entry.retry) return this.#settle(entry, { error: { ...error, outcome: 'unknown' } });
    return this.#settle(entry, reply);
  }

  /** The connection is gone: what was on it may or may not be in the log. */
  disconnected() {
    for (const entry of this.entries.values()) {
      if (!entry.inFlight) continue;
      entry.inFlight = false;
      entry.retry = true;
      entry.at = 0;
    }
    this.inFlight = 0;
  }

  /** What has no answer yet, oldest first; all of it may be in the log by the time it is read, so each
   * is a resend then. */
  unsettled() {
    return [...this.entries.values()].map(({ channel, change, messageId }) => ({
      channel,
      change,
      messageId,
      retry: true,
    }));
  }

  #window(now) {
    return now < this.slowUntil ? 1 : WINDOW;
  }

  /** The first of each channel that is not on the wire: it holds back the rest of the channel, so
   * that an error does not turn the order round more than it must. */
  #heads() {
    const heads = new Map();
    for (const entry of this.entries.values()) {
      if (!entry.inFlight && !heads.has(entry.channel)) heads.set(entry.channel, entry);
    }
    return heads.values();
  }

  #pick(now) {
    if (this.inFlight >= this.#window(now) || now < this.notBefore) return null;
    let first = null;
    for (const entry of this.#heads()) {
      if (entry.at <= now && (!first || entry.order < first.order)) first = entry;
    }
    return first;
  }

  #settle(entry, result) {
    this.entries.delete(entry.order);
    if (entry.inFlight) this.inFlight -= 1;
    const { order, channel, change, messageId } = entry;
    return { order, channel, change, messageId, ...result };
  }
}
