// What a channel (or a thread) shows: its records sorted by seq, each once, with all that was done to
// them since, and what this page has sent and nobody has shown back yet. No I/O, no page.

import { keyOf } from './listening.js';

/** Changes that are remembered, to be applied to what is loaded later. */
const CHANGES = 2_000;
/** Messages of one person within so long stand under one name, in ms. */
const TOGETHER_MS = 5 * 60_000;

const isChange = (type) =>
  ['message_changed', 'message_deleted', 'reaction_added', 'reaction_removed'].includes(type);

/**
 * @typedef {object} Entry a message, or a change of the membership
 * @property {string} key
 * @property {string} type
 * @property {number} seq
 * @property {string} user
 * @property {string} message_id
 * @property {number} ts_ms
 * @property {number} version counts what changed of it, for the page
 */

/** What a record says when it is first seen. @returns {Entry} */
function entryOf(record) {
  const entry = {
    key: keyOf(record),
    type: record.type,
    seq: record.seq,
    user: record.user,
    message_id: record.message_id,
    ts_ms: record.posted_ms ?? record.ts_ms,
    version: 0,
  };
  if (record.type !== 'message') return { ...entry, member: record.member };
  return {
    ...entry,
    text: record.text,
    thread: record.thread ?? null,
    edited: record.edited ?? null,
    deleted: record.deleted ?? false,
    reactions: new Map((record.reactions ?? []).map((one) => [one.reaction, new Set(one.users)])),
    /** The seq of the last change of each reaction and user. */
    reacted: new Map(),
    replies: record.replies ? { ...record.replies, users: [...record.replies.users] } : null,
    /** The head of the page that told of the replies. */
    repliesThrough: 0,
  };
}

export class Timeline {
  constructor() {
    /** @type {Map<string, Entry>} */
    this.entries = new Map();
    /** @type {Map<number, Entry>} */
    this.bySeq = new Map();
    this.sorted = null;
    this.changes = [];
    /** By message id: what was sent here and has not been shown back. */
    this.pending = new Map();
    /** Whether older messages are to be had. */
    this.hasOlder = true;
    this.loaded = false;
    /** Whether history was ever put in. */
    this.begun = false;
  }

  /** Ascending by seq. @returns {Entry[]} */
  list() {
    this.sorted ??= [...this.entries.values()].sort((a, b) => a.seq - b.seq);
    return this.sorted;
  }

  oldest() {
    return this.list()[0]?.seq ?? null;
  }

  newest() {
    return this.list().at(-1)?.seq ?? 0;
  }

  /** Takes a record, live or from a page of history at `head`. Twice does no harm. */
  add(record, head = 0) {
    if (isChange(record.type)) {
      this.#remember(record);
      this.#apply(record);
    } else if (['message', 'member_joined', 'member_left'].includes(record.type)) {
      this.#insert(record, head);
    }
  }

  /** A record that was given with the seq of a copy has this lower one. */
  reseq(key, to) {
    const entry = this.entries.get(key);
    if (!entry || entry.seq <= to) return;
    this.bySeq.delete(entry.seq);
    entry.seq = to;
    entry.version += 1;
    this.bySeq.set(to, entry);
    this.sorted = null;
    this.#catchUp(entry);
  }

  /** The page before the oldest. */
  addOlder(page) {
    for (const record of page.messages) this.add(record, page.head);
    this.hasOlder = page.has_more;
  }

  /**
   * The newest page, for a page that stands at `head`: what was known through there is replaced, since
   * something between may be missing; what came live after it stays.
   */
  replaceThrough(head, page) {
    for (const entry of this.list()) {
      if (entry.seq > head) continue;
      this.entries.delete(entry.key);
      this.bySeq.delete(entry.seq);
    }
    this.sorted = null;
    // The page shows what these did, and what took it back since.
    this.changes = this.changes.filter((change) => change.seq > page.head);
    for (const record of page.messages) this.add(record, page.head);
    this.hasOlder = page.has_more;
    this.loaded = true;
    this.begun = true;
  }

  /** Keeps the newest `most`. */
  trim(most) {
    const all = this.list();
    if (all.length <= most) return;
    for (const entry of all.slice(0, all.length - most)) {
      this.entries.delete(entry.key);
      this.bySeq.delete(entry.seq);
    }
    this.sorted = null;
    this.hasOlder = true;
  }

  // --- what this page sends

  /**
   * What is on its way. From another timeline it comes with what became of it there.
   * @param {{message_id: string, user: string, text: string, thread?: number|null, ts_ms: number,
   *   state?: string, error?: object|null}} sent
   */
  addPending(sent) {
    if (this.entries.has(keyOf(sent))) return;
    this.pending.set(sent.message_id, { state: 'pending', error: null, ...sent });
  }

  /** The log has it, at `seq` if that is known. */
  acknowledged(messageId, { seq, ts_ms }) {
    const sent = this.pending.get(messageId);
    if (!sent) return;
    if (seq === null || seq === undefined) {
      // Sent again: the record will tell its place.
      sent.state = 'sent';
      return;
    }
    const { user, text, thread } = sent;
    const message_id = messageId;
    this.add({ type: 'message', seq, user, message_id, text, thread: thread ?? undefined, ts_ms });
  }

  /** Refused for good; it stays, to be tried again or thrown away. */
  failed(messageId, error) {
    const sent = this.pending.get(messageId);
    if (sent) Object.assign(sent, { state: 'failed', error });
  }

  drop(messageId) {
    this.pending.delete(messageId);
  }

  // --- inside

  #insert(record, head) {
    const key = keyOf(record);
    this.pending.delete(record.message_id);
    const known = this.entries.get(key);
    if (known) {
      if (record.seq < known.seq) this.reseq(key, record.seq);
      // One that comes from the store knows more than one that came live.
      const fresh = { ...entryOf(record), repliesThrough: head };
      if (known.type === 'message') this.#merge(known, fresh);
      return;
    }
    const entry = { ...entryOf(record), repliesThrough: head };
    this.entries.set(key, entry);
    this.bySeq.set(entry.seq, entry);
    this.sorted = null;
    this.#catchUp(entry);
    if (entry.type === 'message' && entry.thread !== null) this.#countReply(entry);
  }

  #merge(known, fresh) {
    if (fresh.deleted && !known.deleted) {
      Object.assign(known, { deleted: true, text: '' });
      known.version += 1;
    }
    if (!known.deleted && (fresh.edited?.seq ?? 0) > (known.edited?.seq ?? 0)) {
      Object.assign(known, { text: fresh.text, edited: fresh.edited });
      known.version += 1;
    }
    if ((fresh.replies?.last_seq ?? 0) > (known.replies?.last_seq ?? 0)) {
      known.replies = fresh.replies;
      known.repliesThrough = fresh.repliesThrough;
      known.version += 1;
    }
  }

  #remember(record) {
    this.changes.push(record);
    if (this.changes.length > CHANGES) this.changes.splice(0, CHANGES / 2);
  }

  /** What was done to it before it was loaded. */
  #catchUp(entry) {
    const about = this.changes.filter((change) => change.target === entry.seq);
    for (const change of about.sort((a, b) => a.seq - b.seq)) this.#apply(change);
    if (entry.type !== 'message') return;
    const replies = [...this.entries.values()].filter((other) => other.thread === entry.seq && !other.deleted);
    for (const reply of replies.sort((a, b) => a.seq - b.seq)) this.#countReply(reply);
  }

  #apply(change) {
    const entry = this.bySeq.get(change.target);
    if (entry?.type !== 'message') return;
    switch (change.type) {
      case 'message_changed': {
        // Of two edits the later seq stands; an empty text says that the message was deleted since.
        const newer = change.seq > (entry.edited?.seq ?? 0);
        if (!newer || entry.deleted || change.text === '') return;
        entry.text = change.text;
        entry.edited = { seq: change.seq, ts_ms: change.ts_ms, user: change.user };
        entry.pendingText = null;
        break;
      }
      case 'message_deleted':
        if (entry.deleted) return;
        Object.assign(entry, { deleted: true, text: '', pendingText: null });
        entry.reactions.clear();
        if (entry.thread !== null) this.#uncountReply(entry, change.seq);
        break;
      default: {
        const { reaction, user, seq } = change;
        const name = `${user} ${reaction}`;
        if (entry.deleted || (entry.reacted.get(name) ?? 0) >= seq) return;
        entry.reacted.set(name, seq);
        const users = entry.reactions.get(reaction) ?? new Set();
        if (change.type === 'reaction_added') users.add(user);
        else users.delete(user);
        if (users.size > 0) entry.reactions.set(reaction, users);
        else entry.reactions.delete(reaction);
      }
    }
    entry.version += 1;
  }

  /** A reply was seen: its root shows it, once. */
  #countReply(reply) {
    const root = this.bySeq.get(reply.thread);
    if (root?.type !== 'message') return;
    const replies = (root.replies ??= { count: 0, last_seq: 0, users: [] });
    if (reply.seq <= replies.last_seq) return;
    replies.count += 1;
    replies.last_seq = reply.seq;
    if (!replies.users.includes(reply.user)) replies.users.push(reply.user);
    root.version += 1;
  }

  /** A reply was deleted by the record at `seq`, which a page that told of the replies may know. */
  #uncountReply(reply, seq) {
    const root = this.bySeq.get(reply.thread);
    if (!root?.replies || seq <= root.repliesThrough || reply.seq > root.replies.last_seq) return;
    root.replies.count = Math.max(0, root.replies.count - 1);
    root.version += 1;
  }
}

/** A day of the reader's own calendar, as `2026-01-31`. */
export function dayOf(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/**
 * The lines of a channel, from the top: days, the mark of what is new, messages, changes of the
 * membership, and at the end what is on its way.
 * @param {Timeline} timeline
 * @param {{me: string, newSince?: number|null}} options `newSince`: a line goes before the first
 *   message of somebody else above this seq
 */
export function rowsOf(timeline, { me, newSince = null }) {
  const rows = [];
  let day = null;
  const days = new Map();
  let before = null;
  let marked = newSince === null;
  const beginDay = (ms) => {
    const today = dayOf(ms);
    if (today === day) return;
    day = today;
    before = null;
    // A day may come again: below it stands what could not be sent yesterday.
    const nth = (days.get(today) ?? 0) + 1;
    days.set(today, nth);
    rows.push({ kind: 'day', key: nth === 1 ? `day-${today}` : `day-${today}-${nth}`, day: today, ms });
  };
  for (const entry of timeline.list()) {
    beginDay(entry.ts_ms);
    if (!marked && entry.seq > newSince && entry.user !== me && entry.type === 'message') {
      marked = true;
      before = null;
      rows.push({ kind: 'new', key: 'new' });
    }
    if (entry.type !== 'message') {
      rows.push({ kind: 'member', key: entry.key, entry });
      before = null;
      continue;
    }
    const continued =
      before !== null &&
      before.user === entry.user &&
      entry.ts_ms - before.ts_ms < TOGETHER_MS &&
      before.thread === entry.thread &&
      !before.deleted;
    rows.push({ kind: 'message', key: entry.key, entry, continued });
    before = entry;
  }
  for (const sent of timeline.pending.values()) {
    beginDay(sent.ts_ms);
    rows.push({ kind: 'pending', key: `${sent.user}/${sent.message_id}`, sent });
  }
  return rows;
}

/**
 * How far a message of mine came with the other side of a direct channel.
 * @param {number} seq
 * @param {Iterable<{delivered: number, read: number}>} others their devices' cursors
 * @returns {'sent'|'delivered'|'read'}
 */
export function signOf(seq, others) {
  let sign = 'sent';
  for (const { delivered, read } of others) {
    if (read >= seq) return 'read';
    if (delivered >= seq) sign = 'delivered';
  }
  return sign;
}
