// A thread beside its channel: read from the store once, and followed live.

import { recordOf } from './place.js';
import { Timeline } from './timeline.js';

/** Messages of a thread that are kept. */
const KEEP = 2_000;

export class Thread {
  /** @param {string} channel its id @param {number} root the seq of the message that began it */
  constructor(channel, root) {
    this.channel = channel;
    this.root = root;
    this.timeline = whole();
    this.loading = true;
    this.error = null;
  }

  /**
   * Reads it for the first time; what is known of the root is shown if that fails.
   *
   * @param {object} place its channel
   * @param {(after?: number) => Promise<object>} page asks for a page of it, null once nobody looks
   */
  async open(place, page) {
    const began = place.timeline.bySeq.get(this.root);
    try {
      await this.#read(place, page, this.timeline);
    } catch (error) {
      this.error = error.message;
      if (began) this.timeline.add(recordOf(began));
    }
    this.loading = false;
  }

  /** Reads it again: what lies between the last record and a join that could not go on is in the store
   * alone. The thread itself stays: a reply that is being written belongs to it. */
  async again(place, page) {
    const timeline = whole();
    try {
      await this.#read(place, page, timeline);
      this.timeline = timeline;
      this.error = null;
    } catch (error) {
      this.error = error.message;
    }
  }

  /** Takes a record of the channel; false: it is none of the thread's. */
  add(record) {
    const belongs = record.type === 'message' ? record.thread === this.root : record.target !== undefined;
    if (!belongs) return false;
    this.timeline.add(record);
    this.#trim(this.timeline);
    return true;
  }

  /** Reads all pages into a timeline, and what came live meanwhile. */
  async #read(place, page, timeline) {
    let after;
    for (;;) {
      const found = await page(after);
      if (!found) return;
      for (const record of [found.root, ...found.messages]) timeline.add(record, found.head);
      this.#trim(timeline);
      after = found.messages.at(-1)?.seq;
      if (!found.has_more || after === undefined) break;
    }
    for (const entry of place.timeline.list()) {
      if (entry.thread === this.root) timeline.add(recordOf(entry));
    }
    for (const change of place.timeline.changes) timeline.add(change);
    for (const sent of place.timeline.pending.values()) {
      if (sent.thread === this.root) timeline.addPending(sent);
    }
  }

  /** Keeps the message that began it, and the newest replies. */
  #trim(timeline) {
    const began = timeline.bySeq.get(this.root);
    timeline.trim(KEEP);
    if (began && !timeline.bySeq.has(this.root)) timeline.add(recordOf(began));
  }
}

function whole() {
  const timeline = new Timeline();
  timeline.hasOlder = false;
  return timeline;
}
