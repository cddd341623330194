// The protocol as the page speaks it, over any number of connections: what to write, what to tell
// the page. A pure state machine (as in crates/client): time is given in ms, randomness is given.

import { Backoff } from './backoff.js';
import { Listening } from './listening.js';
import { Marks } from './marks.js';
import { Outbox } from './outbox.js';

/** A reply may be owed for so long, in ms; so may the close after a goodbye. */
const REPLY_MS = 20_000;
/** Of one channel, `typing` is said at most so often: a server drops what comes sooner. */
const TYPING_MS = 3_000;
/** Beside the server's heartbeat, in ms: how long a ping may be unanswered. */
const SILENCE_MS = 10_000;
const AGAIN_MS = 1_000;

/** Of RFC 6455's and our own close codes, those after which a client does not come back. */
export const reconnects = (code) =>
  ![1000, 1002, 1003, 1007, 1008, 1009].includes(code) && !(code >= 4500 && code <= 4999);

/** Something that the server is to know while a connection lasts: the newest value counts. */
class Standing {
  constructor() {
    this.value = null;
    this.dueAt = Infinity;
  }

  set(value) {
    if (JSON.stringify(value) === JSON.stringify(this.value)) return;
    this.value = value;
    this.dueAt = 0;
  }

  connected() {
    if (this.value !== null) this.dueAt = 0;
  }

  refused(now, retryAfterMs) {
    this.dueAt = now + Math.max(retryAfterMs ?? 0, AGAIN_MS);
  }

  take(now) {
    if (this.dueAt > now) return null;
    this.dueAt = Infinity;
    return this.value;
  }
}

export class Session {
  /** @param {() => number} random from 0 to 1 */
  constructor(random = Math.random) {
    this.random = random;
    this.maxFrameBytes = null;
    this.heartbeatMs = 15_000;
    this.nextRequest = 1;
    this.requests = new Map();
    /** @type {Map<string, Listening>} */
    this.channels = new Map();
    this.joins = [];
    this.leaves = [];
    this.joinNotBefore = 0;
    this.outbox = new Outbox(random);
    this.marks = new Marks();
    this.watched = new Standing();
    this.presence = new Standing();
    this.typingQueue = [];
    this.typed = new Map();
    /** Decisions that nobody has taken yet. */
    this.outputs = [];
    this.goodbye = null;
    this.rateDelayMs = 0;
    this.progress = null;
    this.heardAt = 0;
    this.pingedAt = null;
  }

  // --- the page

  /** Listens to a channel from now on, over all reconnects. */
  join(channel, since = null) {
    if (this.channels.has(channel)) return;
    this.channels.set(channel, new Listening(since));
    if (this.isConnected()) this.joins.push(channel);
  }

  /** Listens no more; nothing of the channel is given from here on. */
  leave(channel) {
    if (!this.channels.delete(channel)) return;
    this.joins = this.joins.filter((one) => one !== channel);
    this.marks.forget(channel);
    if (this.isConnected()) this.leaves.push(channel);
  }

  /** Sends a change until the answer is definite; gives the number of its settlement. */
  send(channel, change, messageId, retry = false) {
    return this.outbox.push(channel, change, messageId, retry);
  }

  /** This device came so far. */
  mark(channel, delivered, read) {
    this.marks.advance(channel, delivered, read);
  }

  /** Says that the user types, if that was not said a moment ago; lost without a connection. */
  typing(channel, now) {
    if (!this.isConnected() || now - (this.typed.get(channel) ?? -Infinity) < TYPING_MS) return;
    this.typed.set(channel, now);
    this.typingQueue.push(channel);
  }

  /** @param {'active'|'away'} state */
  setPresence(state) {
    this.presence.set(state);
  }

  /** Watches these users (at most 200) and no others. */
  watch(users) {
    this.watched.set(users.slice(0, 200));
  }

  /** Everything of the channel through here was given; null while that is not known. */
  cursor(channel) {
    return this.channels.get(channel)?.cursor ?? null;
  }

  // --- the connection

  isConnected() {
    return this.maxFrameBytes !== null;
  }

  /** A connection is up; its `hello` came. */
  connected(hello, now) {
    this.maxFrameBytes = hello.max_frame_bytes;
    this.heartbeatMs = hello.heartbeat_ms;
    this.progress = now;
    this.heardAt = now;
    this.pingedAt = null;
    this.goodbye = null;
    this.rateDelayMs = 0;
    this.joinNotBefore = 0;
    this.joins = [...this.channels.keys()];
    this.leaves = [];
    this.presence.connected();
    this.watched.connected();
    this.outputs.push({ type: 'connected', hello });
  }

  /** The connection is gone. Unacknowledged sends and all joins are kept for the next one. */
  disconnected(now) {
    this.maxFrameBytes = null;
    this.progress = null;
    this.joins = [];
    this.leaves = [];
    this.typingQueue = [];
    this.requests.clear();
    this.marks.disconnected(now);
    for (const listening of this.channels.values()) listening.disconnected();
    this.outbox.disconnected();
  }

  /** The delay that the server asked for in its goodbye, in ms, or null. */
  takeGoodbyeDelay() {
    const delay = this.goodbye?.reconnect_after_ms ?? null;
    this.goodbye = null;
    return delay;
  }

  /** The next text frame to write, if there is one that may be written now. */
  nextFrame(now) {
    // After a goodbye nothing is written: what is on the wire is answered before the close.
    if (!this.isConnected() || this.goodbye) return null;
    const left = this.leaves.shift();
    if (left) return this.#request({ type: 'leave', channel: left }, { kind: 'leave' }, now);
    while (this.joins.length > 0 && now >= this.joinNotBefore) {
      const channel = this.joins.shift();
      const listening = this.channels.get(channel);
      if (listening?.phase !== 'queued') continue;
      listening.phase = 'asked';
      listening.request = this.nextRequest;
      const since = listening.since();
      const body = since === null ? { type: 'join', channel } : { type: 'join', channel, since };
      return this.#request(body, { kind: 'join', channel }, now);
    }
    const state = this.presence.take(now);
    if (state) return this.#request({ type: 'presence', state }, { kind: 'presence' }, now);
    const users = this.watched.take(now);
    if (users) return this.#request({ type: 'watch', users }, { kind: 'watch' }, now);
    const mark = this.marks.next(now);
    if (mark) {
      return this.#request({ type: 'mark', ...mark }, { kind: 'mark', channel: mark.channel }, now);
    }
    const typing = this.typingQueue.shift();
    // Without an id: there is no answer to it.
    if (typing) return JSON.stringify({ type: 'typing', channel: typing });
    for (;;) {
      const next = this.outbox.next(now, this.nextRequest, this.maxFrameBytes);
      if (!next) break;
      if (next.settled) {
        this.outputs.push({ type: 'settled', ...next.settled });
        continue;
      }
      this.#note({ kind: 'send', order: next.order }, now);
      return next.frame;
    }
    if (this.pingedAt === null && now - this.heardAt >= this.heartbeatMs) {
      this.pingedAt = now;
      return '{"type":"ping"}';
    }
    return null;
  }

  /** Joins whose delay is over are queued again. To be called before {@link nextFrame}. */
  tick(now) {
    if (!this.isConnected()) return;
    for (const [channel, listening] of this.channels) {
      if (listening.phase === 'delayed' && listening.at <= now) {
        listening.phase = 'queued';
        this.joins.push(channel);
      }
    }
  }

  /** When there is something to do without an event before, in ms; Infinity: never. */
  nextDue(now) {
    if (!this.isConnected()) return Infinity;
    const dead = this.deadAt();
    if (this.goodbye) return dead;
    let due = Math.min(
      dead,
      this.marks.nextDue(),
      this.outbox.nextDue(now),
      this.presence.dueAt,
      this.watched.dueAt,
    );
    if (this.pingedAt === null) due = Math.min(due, this.heardAt + this.heartbeatMs);
    if (this.joins.length > 0) due = Math.min(due, this.joinNotBefore);
    for (const listening of this.channels.values()) {
      if (listening.phase === 'delayed') due = Math.min(due, listening.at);
    }
    return due;
  }

  /** When the connection counts as dead if nothing comes until then. */
  deadAt() {
    if (this.goodbye) return this.goodbye.at + REPLY_MS;
    const silent = this.pingedAt === null ? Infinity : this.pingedAt + SILENCE_MS;
    return this.requests.size > 0 ? Math.min(silent, this.progress + REPLY_MS) : silent;
  }

  // --- the server's frames

  /** One frame of the server, other than the first `hello`. */
  onFrame(frame, now) {
    this.progress = now;
    this.heardAt = now;
    this.pingedAt = null;
    if (frame.reply_to !== undefined) {
      this.#onReply(frame, now);
      return;
    }
    const { channel } = frame;
    const live = this.#live(channel);
    switch (frame.type) {
      case 'message':
      case 'message_changed':
      case 'message_deleted':
      case 'reaction_added':
      case 'reaction_removed':
      case 'member_joined':
      case 'member_left':
      case 'identity_change': {
        const given = live?.record(frame);
        if (given?.record) {
          this.outputs.push({ type: 'record', channel, record: frame, old: given.old });
        } else if (given) {
          this.outputs.push({ type: 'reseq', channel, ...given });
        }
        break;
      }
      case 'synced':
        if (!live) break;
        live.synced(frame.seq);
        if (frame.seq > 0) this.marks.advance(channel, frame.seq, 0);
        this.outputs.push({ type: 'synced', channel, seq: frame.seq });
        break;
      case 'replay':
        live?.replay();
        break;
      case 'left':
        // Removed, or possibly so: the answer to another join tells.
        if (live) {
          live.disconnected();
          this.joins.push(channel);
        }
        break;
      case 'joined':
        if (this.channels.has(channel) || this.leaves.includes(channel)) break;
        {
          const listening = new Listening();
          listening.placed(frame.head);
          this.channels.set(channel, listening);
        }
        this.outputs.push({ type: 'direct', channel, head: frame.head ?? null, with: frame.with });
        break;
      case 'added':
        this.outputs.push({ type: 'added', channel });
        break;
      case 'goodbye':
        this.goodbye = { ...frame, at: now };
        this.outputs.push({ type: 'goodbye', reason: frame.reason });
        break;
      case 'receipt':
      case 'presence':
        this.outputs.push(frame);
        break;
      case 'typing':
        if (live) this.outputs.push(frame);
        break;
      default: // a pong, or a type of a newer server
    }
  }

  #onReply(frame, now) {
    const request = this.requests.get(frame.reply_to);
    this.requests.delete(frame.reply_to);
    const error = frame.ok ? null : (frame.error ?? { code: 'internal', retryable: true });
    if (error?.code === 'rate_limited') this.rateDelayMs = error.retry_after_ms ?? 0;
    switch (request?.kind) {
      case 'join':
        this.#onJoinReply(request.channel, frame, error, now);
        break;
      case 'send': {
        const settled = this.outbox.onReply(request.order, error ? { error } : { ok: frame }, now);
        if (settled) this.outputs.push({ type: 'settled', ...settled });
        break;
      }
      case 'mark':
        this.marks.onReply(request.channel, error, now);
        break;
      case 'watch':
        if (error?.retryable) this.watched.refused(now, error.retry_after_ms);
        for (const one of frame.users ?? []) this.outputs.push({ type: 'presence', ...one });
        break;
      case 'presence':
        if (error?.retryable) this.presence.refused(now, error.retry_after_ms);
        break;
      default: // a leave, or nothing of ours
    }
  }

  #onJoinReply(channel, frame, error, now) {
    const listening = this.channels.get(channel);
    // The answer to a join that a later one replaces says nothing.
    if (listening?.phase !== 'asked' || listening.request !== frame.reply_to) return;
    if (!error) {
      const since = listening.joined(frame);
      const { head = null, recovered, reason } = frame;
      this.outputs.push({ type: 'joined', channel, head, recovered, reason, since });
    } else if (error.retryable) {
      const floor = error.retry_after_ms ?? 0;
      if (error.code === 'rate_limited') this.joinNotBefore = now + floor;
      listening.phase = 'delayed';
      listening.at = now + listening.backoff.next(this.random, floor);
    } else {
      this.channels.delete(channel);
      this.marks.forget(channel);
      this.outputs.push({ type: 'join-failed', channel, error });
    }
  }

  /** The channel, if its join has been answered. */
  #live(channel) {
    const listening = this.channels.get(channel);
    return listening?.phase === 'live' ? listening : undefined;
  }

  #request(body, request, now) {
    const frame = JSON.stringify({ id: this.nextRequest, ...body });
    this.#note(request, now);
    return frame;
  }

  #note(request, now) {
    if (this.requests.size === 0) this.progress = now;
    this.requests.set(this.nextRequest, request);
    this.nextRequest += 1;
  }
}

/** The delay before the next connection, in ms. */
export class Pause {
  constructor(random = Math.random) {
    this.random = random;
    this.backoff = new Backoff();
  }

  /** @param {{code: number, session: Session, healthyMs: number}} ended */
  after({ code, session, healthyMs }) {
    const goodbye = session.takeGoodbyeDelay();
    if (goodbye !== null) {
      // A planned restart is no failure, and the server has spread its clients already.
      this.backoff.reset();
      return goodbye;
    }
    if (healthyMs >= 30_000) this.backoff.reset();
    return this.backoff.next(this.random, code === 4009 ? session.rateDelayMs : 0);
  }
}
