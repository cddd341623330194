// The state of the chat page, and what changes it: the API, the connection, and the person. Views are
// told by topic what to draw again; nothing in here knows an element.

import { Api } from './api.js';
import { deviceOf } from './auth.js';
import { Company } from './company.js';
import { Connection } from './connection.js';
import { ChannelHistory } from './history.js';
import { changeRecord, place } from './place.js';
import { Session } from './session.js';
import { Thread } from './thread.js';
import { Timeline } from './timeline.js';
import { BEHIND_MS, Unread } from './unread.js';
import { Users } from './users.js';

/** Messages of a channel that are kept while its end is on screen. */
const KEEP = 600;
/** Channels that the page listens to: a socket may join 1,000. */
const JOINS = 900;
/** Channels of one's own that are asked for by id: that many in all, so many at once. */
const OWN_BEYOND = 900;
const OWN_AT_ONCE = 8;
/** While a channel is on screen, who listens to it is asked again this often, in ms. */
const HERE_MS = 15_000;
const TEXT_BYTES = 16_384;

export class ChatModel {
  /**
   * @param {import('./auth.js').Auth} auth
   * @param {(topic: string) => void} changed topics: channels, log, thread, people, users, presence,
   *   banner, typing, composer, head
   */
  constructor(auth, changed) {
    this.auth = auth;
    this.changed = changed;
    this.api = new Api(() => auth.token);
    this.session = new Session();
    /** @type {Map<string, ReturnType<typeof place>>} */
    this.channels = new Map();
    this.users = new Users((ids) => this.api.users(ids), () => changed('users'));
    this.unread = new Unread({
      ask: () => this.api.unread(),
      places: this.channels,
      me: () => this.me,
      counted: () => this.#onCounted(),
    });
    this.company = new Company({
      api: () => this.api,
      users: this.users,
      shown: () => this.here(),
      me: () => this.me,
      changed,
    });
    this.history = new ChannelHistory({
      api: () => this.api,
      users: this.users,
      shown: () => this.here(),
      changed,
      read: () => this.markRead(),
      gone: (id) => this.#forget(id),
    });
    this.me = '';
    this.current = null;
    /** @type {Thread | null} the thread beside the channel */
    this.thread = null;
    this.connection = null;
    this.state = { state: 'connecting' };
    /** Whether the connection was open before. */
    this.wasOpen = false;
    this.refreshTimer = null;
    this.atEnd = false;
    this.onNotice = () => {};
    this.onNews = () => {};
  }

  // --- starting

  /** Reads who is here and what they have, then connects. */
  async start() {
    const [me, channels] = await Promise.all([this.api.me(), this.api.channels()]);
    this.me = me.id;
    this.users.keep([me]);
    for (const channel of channels) this.channels.set(channel.id, place(channel));
    const unread = await this.api.unread();
    for (const channel of await this.#ownBeyond(unread)) this.channels.set(channel.id, place(channel));
    await this.users.knowNow(this.#mine().flatMap((one) => one.with ?? []));
    this.unread.take(unread);
    const liveliest = this.#mine().sort((a, b) => b.lastMs - a.lastMs);
    for (const channel of liveliest.slice(0, JOINS)) this.session.join(channel.id);
    this.#restoreOutbox();
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    this.connection = new Connection({
      url: `${scheme}://${location.host}/ws?device=${deviceOf(me.id)}`,
      session: this.session,
      token: () => this.auth.token,
      checkToken: () => this.auth.check(),
      onOutput: (output) => this.#onOutput(output),
      onState: (state) => this.#onState(state),
    });
    this.session.setPresence(document.visibilityState === 'visible' ? 'active' : 'away');
    this.connection.start();
    setInterval(() => this.company.askWhoIsHere(), HERE_MS);
  }

  stop() {
    this.connection?.stop();
    this.#saveOutbox();
  }

  // --- what the views ask

  user(id) {
    return this.users.get(id);
  }

  nameOf(id) {
    return this.users.nameOf(id);
  }

  here() {
    return this.current === null ? null : (this.channels.get(this.current) ?? null);
  }

  /** What a channel is called by people. */
  title(channel) {
    if (channel.kind !== 'direct') return channel.name;
    return channel.with === this.me ? `${this.nameOf(this.me)} (you)` : this.nameOf(channel.with);
  }

  /** The channel that a segment of the address means: an id, or a name. */
  find(segment) {
    if (this.channels.has(segment)) return this.channels.get(segment);
    return [...this.channels.values()].find((channel) => channel.name === segment) ?? null;
  }

  /** The same, asked of the server if the page does not have it: lists end somewhere. */
  async seek(segment) {
    const known = this.find(segment);
    if (known) return known;
    try {
      const found = await this.api.channel(segment).catch(() => this.api.channelNamed(segment));
      return found && this.#know(found);
    } catch {
      return null;
    }
  }

  /** The person's channels by kind; direct ones by their last message. */
  sections() {
    const named = (a, b) => a.name.localeCompare(b.name);
    const mine = this.#mine();
    const shown = [...this.channels.values()];
    return {
      channels: mine.filter((one) => one.kind !== 'direct').sort(named),
      direct: mine.filter((one) => one.kind === 'direct').sort((a, b) => b.lastMs - a.lastMs),
      others: shown.filter((one) => !one.is_member && one.kind === 'public').sort(named),
    };
  }

  /** Everybody whom the page has met, by name, without oneself. */
  people() {
    return this.users.others(this.me);
  }

  typists(channel) {
    return this.company.typists(channel);
  }

  /** What is known of a user's presence. */
  presenceOf(id) {
    return this.company.presence.get(id);
  }

  // --- users

  /** @param {{name?: string, status?: string}} patch */
  async changeMe(patch) {
    this.users.keep([await this.api.changeMe(patch)]);
  }

  // --- channels

  #mine() {
    return [...this.channels.values()].filter((channel) => channel.is_member);
  }

  /**
   * One's own channels that are not known: where there are very many public ones the list ends before
   * all of one's own were in it, and the count of what is unread names them all.
   */
  async #ownBeyond({ channels, missing = [] }) {
    const ids = [...channels.map((one) => one.channel), ...missing];
    const unknown = ids.filter((id) => !this.channels.has(id)).slice(0, OWN_BEYOND);
    const found = [];
    for (let at = 0; at < unknown.length; at += OWN_AT_ONCE) {
      const some = unknown.slice(at, at + OWN_AT_ONCE);
      // One that cannot be had now is looked for again with the next count.
      found.push(...(await Promise.all(some.map((id) => this.api.channel(id).catch(() => null)))));
    }
    return found.filter(Boolean);
  }

  #onCounted() {
    this.changed('channels');
    this.markRead();
  }

  /** Looks again at which channels there are and what is unread in them. */
  async refresh() {
    try {
      const [channels, unread] = await Promise.all([this.api.channels(), this.api.unread()]);
      for (const channel of channels) this.#know(channel);
      for (const channel of await this.#ownBeyond(unread)) this.#know(channel);
      this.unread.take(unread);
    } catch (error) {
      if (error.retryable) this.refreshTimer ??= setTimeout(() => this.#refreshAgain(), BEHIND_MS);
    }
  }

  #refreshAgain() {
    this.refreshTimer = null;
    return this.refresh();
  }

  /** A channel as the server tells it now; joined if it is one's own. */
  #know(channel) {
    const known = this.channels.get(channel.id);
    if (known) Object.assign(known, channel);
    else this.channels.set(channel.id, place(channel));
    this.users.meet([channel.with]);
    if (channel.is_member && this.session.channels.size < JOINS) this.session.join(channel.id);
    this.connection?.pump();
    this.changed('channels');
    return this.channels.get(channel.id);
  }

  /** Listens to the channel on screen, in any case: the one that was quiet the longest makes room. */
  #listen(channel) {
    const { session } = this;
    if (session.channels.has(channel.id)) return;
    if (session.channels.size >= JOINS) {
      const joined = [...session.channels.keys()].map((id) => this.channels.get(id)).filter(Boolean);
      const quiet = joined.reduce((least, one) => (one.lastMs < least.lastMs ? one : least));
      session.leave(quiet.id);
      quiet.joinedAt = null;
      quiet.timeline.loaded = false;
    }
    session.join(channel.id);
    this.connection?.pump();
  }

  /** Shows a channel. */
  async open(id) {
    const channel = this.channels.get(id);
    if (!channel) return;
    this.current = id;
    // The log says so once it has drawn what is there: it may stop at what is new.
    this.atEnd = false;
    this.closeThread();
    channel.newSince = channel.unread > 0 ? channel.read : null;
    this.changed('channels');
    this.changed('log');
    this.changed('head');
    this.changed('composer');
    this.changed('typing');
    this.changed('people');
    if (!channel.is_member) return;
    this.#listen(channel);
    this.#watchPeople();
    await Promise.all([
      this.history.loadNewest(channel),
      this.#loadMembers(channel),
      this.company.loadReceipts(channel),
      this.company.askWhoIsHere(),
    ]);
    this.markRead();
  }

  async create(name, kind) {
    const made = await this.api.createChannel(name, kind);
    return this.#know(made);
  }

  /** Enters a public channel. */
  async enter(channel) {
    await this.api.addMember(channel.id, 'me');
    this.#know(await this.api.channel(channel.id));
  }

  async leave(channel) {
    await this.api.removeMember(channel.id, 'me');
    this.#forget(channel.id);
  }

  #forget(id) {
    const channel = this.channels.get(id);
    if (!channel) return;
    this.session.leave(id);
    this.connection?.pump();
    channel.is_member = false;
    if (channel.kind !== 'public') this.channels.delete(id);
    channel.timeline = new Timeline();
    channel.members = null;
    if (this.current === id) {
      this.closeThread();
      this.changed('log');
      this.changed('head');
      this.changed('composer');
      this.changed('people');
    }
    this.changed('channels');
  }

  /** The direct channel with a user, made by the first who asks. */
  async direct(user) {
    const id = await this.api.direct(user);
    return this.channels.get(id) ?? this.#know(await this.api.channel(id));
  }

  // --- people

  async #loadMembers(channel) {
    if (await this.company.loadMembers(channel)) this.#watchPeople();
  }

  #watchPeople() {
    this.session.watch(this.company.toWatch(this.sections().direct.map((one) => one.with)));
    this.connection?.pump();
  }

  // --- threads

  async openThread(root) {
    const channel = this.here();
    if (!channel) return;
    const thread = new Thread(channel.id, root);
    this.thread = thread;
    this.changed('thread');
    await thread.open(channel, this.#pagesOf(thread));
    this.changed('thread');
  }

  #pagesOf(thread) {
    return async (after) => {
      const page = await this.api.replies(thread.channel, thread.root, after);
      if (this.thread !== thread) return null;
      this.users.meetIn([page.root, ...page.messages]);
      return page;
    };
  }

  async #readThreadAgain(channel, thread) {
    await thread.again(channel, this.#pagesOf(thread));
    if (this.thread === thread) this.changed('thread');
  }

  closeThread() {
    if (!this.thread) return;
    this.thread = null;
    this.changed('thread');
  }

  // --- sending

  /** Sends a text to the channel on screen; gives what is wrong with it, or null. */
  say(text, thread = null) {
    const channel = this.here();
    const wrong = this.#wrong(text);
    if (wrong || !channel) return wrong;
    const message_id = crypto.randomUUID();
    const sent = { message_id, user: this.me, text, thread, ts_ms: Date.now() };
    channel.timeline.addPending(sent);
    if (this.thread?.root === thread) this.thread.timeline.addPending(sent);
    channel.newSince = null;
    this.#send(channel.id, { type: 'message', text, thread: thread ?? undefined }, message_id);
    this.#drawn();
    return null;
  }

  #wrong(text) {
    if (text.includes('\0')) return 'The text has a character that cannot be sent.';
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > TEXT_BYTES) return `The text is too long: ${bytes} of ${TEXT_BYTES} bytes.`;
    if (!this.session.outbox.hasRoom()) return 'Too many messages wait to be sent.';
    return null;
  }

  /** Tries a refused message again, under its id. */
  again(messageId) {
    const channel = this.here();
    const sent = channel?.timeline.pending.get(messageId);
    if (sent?.state !== 'failed') return;
    const { text, thread } = sent;
    // Whether a copy is in the log is not known after `unknown`.
    const retry = sent.error?.outcome === 'unknown';
    for (const timeline of this.#timelines(channel.id)) {
      const one = timeline.pending.get(messageId);
      if (one) Object.assign(one, { state: 'pending', error: null });
    }
    this.#send(channel.id, { type: 'message', text, thread: thread ?? undefined }, messageId, retry);
    this.#drawn();
  }

  /** Throws a refused message away. */
  discard(messageId) {
    for (const timeline of this.#timelines(this.current)) timeline.drop(messageId);
    this.#drawn();
  }

  /** Gives a message another text; gives what is wrong with it, or null. */
  edit(seq, text) {
    const wrong = this.#wrong(text);
    if (wrong) return wrong;
    for (const timeline of this.#timelines(this.current)) {
      const entry = timeline.bySeq.get(seq);
      if (entry) Object.assign(entry, { pendingText: text, version: entry.version + 1 });
    }
    this.#send(this.current, { type: 'edit', target: seq, text }, crypto.randomUUID());
    this.#drawn();
    return null;
  }

  remove(seq) {
    this.#send(this.current, { type: 'delete', target: seq }, crypto.randomUUID());
  }

  /** Gives a reaction, or takes it back if one has given it. */
  react(seq, reaction) {
    const timelines = this.#timelines(this.current);
    const entry = timelines.map((one) => one.bySeq.get(seq)).find(Boolean);
    const remove = entry?.reactions.get(reaction)?.has(this.me) ?? false;
    const change = { type: 'reaction', target: seq, reaction };
    if (remove) change.remove = true;
    this.#send(this.current, change, crypto.randomUUID());
  }

  typing() {
    if (this.current === null) return;
    this.session.typing(this.current, performance.now());
    this.connection?.pump();
  }

  #send(channel, change, messageId, retry = false) {
    this.session.send(channel, change, messageId, retry);
    this.connection?.pump();
    this.#saveOutbox();
  }

  /** What has no answer outlives a reload of the page: it is sent again under its id. */
  #saveOutbox() {
    try {
      sessionStorage.setItem(
        `hubbub.outbox.${this.me}`,
        JSON.stringify(this.session.outbox.unsettled()),
      );
    } catch {
      // More than the browser keeps: then a reload forgets it.
    }
  }

  #restoreOutbox() {
    let kept = [];
    try {
      kept = JSON.parse(sessionStorage.getItem(`hubbub.outbox.${this.me}`) ?? '[]');
    } catch {
      // Not ours.
    }
    for (const { channel, change, messageId, retry } of kept) {
      this.session.send(channel, change, messageId, retry);
      const timeline = this.channels.get(channel)?.timeline;
      if (change.type !== 'message' || !timeline) continue;
      const { text, thread } = change;
      const ts_ms = Date.now();
      timeline.addPending({ message_id: messageId, user: this.me, text, thread, ts_ms });
    }
  }

  // --- reading

  /** The page is looked at, or not. */
  setVisible(visible) {
    this.session.setPresence(visible ? 'active' : 'away');
    this.connection?.pump();
    if (!visible) return;
    this.connection?.tryNow();
    this.markRead();
    this.refresh();
    this.company.askWhoIsHere();
  }

  /** Whether the end of the channel is on screen. */
  setAtEnd(atEnd) {
    this.atEnd = atEnd;
    if (atEnd) this.markRead();
  }

  /** Says that all of the channel on screen was read, if it is looked at. */
  markRead() {
    const channel = this.here();
    if (!channel?.is_member || !this.atEnd || document.visibilityState !== 'visible') return;
    const cursor = this.session.cursor(channel.id) ?? 0;
    if (!channel.timeline.loaded || cursor < channel.timeline.newest()) return;
    if (cursor > channel.read) {
      channel.read = cursor;
      this.session.mark(channel.id, cursor, cursor);
      this.connection?.pump();
    }
    if (channel.unread !== 0) {
      channel.unread = 0;
      this.changed('channels');
    }
  }

  // --- what the session says

  #onState(state) {
    const before = this.state;
    this.state = state;
    if (state.state === 'open' && before.state !== 'open') {
      this.company.askWhoIsHere();
      // Of a channel that one was added to meanwhile nobody tells again.
      if (this.wasOpen) this.refresh();
      this.wasOpen = true;
    }
    this.changed('banner');
  }

  #timelines(id) {
    const timelines = [this.channels.get(id)?.timeline];
    if (this.thread?.channel === id) timelines.push(this.thread.timeline);
    return timelines.filter(Boolean);
  }

  #drawn() {
    this.changed('log');
    if (this.thread) this.changed('thread');
  }

  #onOutput(output) {
    const channel = output.channel ? this.channels.get(output.channel) : null;
    switch (output.type) {
      case 'record':
        if (channel) this.#onRecord(channel, output.record, output.old);
        break;
      case 'reseq':
        for (const timeline of this.#timelines(output.channel)) timeline.reseq(output.key, output.to);
        this.#drawn();
        break;
      case 'joined':
        if (channel) {
          this.#onJoined(channel, output);
          // Those of the time away nobody tells again.
          if (this.current === channel.id) this.company.loadReceipts(channel);
        }
        break;
      case 'join-failed':
        if (output.error.code === 'channel_not_found') this.#forget(output.channel);
        break;
      case 'direct':
        this.#onDirect(output);
        break;
      case 'added':
        this.#onAdded(output.channel);
        break;
      case 'synced':
        if (output.channel === this.current) this.markRead();
        break;
      case 'settled':
        this.#onSettled(output);
        break;
      case 'receipt':
        if (channel) this.#onReceipt(channel, output);
        break;
      case 'typing':
        if (channel && output.user !== this.me) this.company.onTyping(channel, output.user);
        break;
      case 'presence':
        this.company.onPresence(output);
        break;
      default: // what the connection's state says already
    }
  }

  /** Somebody has added the person to a channel: it is listed and joined. */
  async #onAdded(id) {
    if (this.channels.get(id)?.is_member) return;
    await this.refresh();
    if (this.current === id) await this.open(id);
  }

  #onJoined(channel, { head, recovered, since }) {
    // Going on from a cursor nothing is missing. Otherwise it comes live from the head on, and what
    // lies before is read from history.
    if (since !== null && recovered) return;
    channel.joinedAt = head ?? 0;
    channel.timeline.loaded = false;
    if (this.current === channel.id) this.history.loadNewest(channel);
    if (this.thread?.channel === channel.id) this.#readThreadAgain(channel, this.thread);
    // What came before the head and after the count is told by nobody.
    if (head === null || head > channel.countedThrough) this.unread.recount();
  }

  async #onDirect({ channel, head, with: partner }) {
    let known = this.channels.get(channel);
    if (!known) {
      const user = this.me;
      known = place({ id: channel, kind: 'direct', name: null, created_by: user, created_ms: Date.now() });
      known.is_member = true;
      known.with = partner ?? this.me;
      this.channels.set(channel, known);
      this.users.meet([partner]);
      this.#watchPeople();
      // What was said before the page was told of it.
      this.refresh();
    }
    known.joinedAt = head ?? 0;
    known.timeline.loaded = false;
    if (this.current === channel) this.history.loadNewest(known);
    this.changed('channels');
  }

  #onRecord(channel, record, old) {
    const { timeline } = channel;
    this.users.meetIn([record]);
    switch (record.type) {
      case 'identity_change':
        this.users.renew(record.user, record.version);
        return;
      case 'member_joined':
      case 'member_left':
        this.company.membersChanged(channel, () => this.#loadMembers(channel));
        break;
      case 'message':
        channel.typing.delete(record.user);
        channel.lastMs = Math.max(channel.lastMs, record.ts_ms);
        if (record.user !== this.me && record.seq > channel.read) this.#onUnread(channel, record, old);
        break;
      default:
    }
    timeline.add(record);
    // While somebody reads further up, what they read stays.
    timeline.trim(this.current === channel.id && !this.atEnd ? KEEP * 5 : KEEP);
    if (this.thread?.channel === channel.id) this.#addToThread(record);
    if (this.current !== channel.id) return;
    this.#drawn();
    this.changed('typing');
  }

  #addToThread(record) {
    if (this.thread.add(record)) this.changed('thread');
  }

  #onUnread(channel, record, old) {
    const looked =
      this.current === channel.id && this.atEnd && document.visibilityState === 'visible';
    if (!old) this.onNews(channel, record, looked);
    if (looked) return;
    if (channel.unread === 0 && this.current === channel.id && channel.newSince === null) {
      channel.newSince = channel.read;
    }
    if (record.seq <= channel.countedThrough) return;
    channel.unread += 1;
    this.changed('channels');
  }

  #onReceipt(channel, receipt) {
    if (receipt.user === this.me) {
      // Another device of one's own read on.
      if (receipt.read <= channel.read) return;
      channel.read = receipt.read;
      // A channel that was never opened here does not know its newest message.
      if (channel.timeline.loaded && receipt.read >= channel.timeline.newest()) channel.unread = 0;
      else this.unread.recount();
      this.changed('channels');
      return;
    }
    this.company.onReceipt(channel, receipt);
  }

  #onSettled({ channel, change, messageId, ok, error }) {
    this.#saveOutbox();
    const timelines = this.#timelines(channel);
    if (change.type === 'message') {
      for (const timeline of timelines) {
        if (error) timeline.failed(messageId, error);
        else timeline.acknowledged(messageId, ok);
      }
      // Sent again: whichever copy the store keeps is in history by the fence.
      if (ok && ok.seq === null) this.#fetchFence(channel, ok.fence, messageId);
    } else if (error) {
      for (const timeline of timelines) {
        const entry = timeline.bySeq.get(change.target);
        if (entry) Object.assign(entry, { pendingText: null, version: entry.version + 1 });
      }
      const what = { edit: 'The edit', delete: 'The deletion', reaction: 'The reaction' }[change.type];
      this.onNotice(`${what} was refused: ${error.message}.`);
    } else if (ok.seq !== null) {
      const record = changeRecord(change, { seq: ok.seq, user: this.me, ts_ms: ok.ts_ms });
      for (const timeline of timelines) timeline.add(record);
    }
    if (channel === this.current) this.#drawn();
  }

  async #fetchFence(id, fence, messageId) {
    const channel = this.channels.get(id);
    if (!channel || fence === undefined) return;
    try {
      const page = await this.api.messages(id, { around: fence, at_least: fence });
      const ours = page.messages.find((one) => one.user === this.me && one.message_id === messageId);
      if (ours) this.#placeOwn(channel, ours);
      // It is stored by now: if it is not near the fence it stands further up, among older pages.
      if (page.head >= fence) for (const timeline of this.#timelines(id)) timeline.drop(messageId);
      if (id === this.current) this.#drawn();
    } catch {
      // The record comes live, too.
    }
  }

  /** Shows a message that was sent again where it stands. */
  #placeOwn(channel, record) {
    const { timeline } = channel;
    // Above the oldest one it would hide what lies between; an older page brings it.
    if (record.seq > (timeline.oldest() ?? 0) || !timeline.hasOlder) timeline.add(record);
    if (this.thread?.channel === channel.id) this.#addToThread(record);
  }
}
