// The state of the chat page, and what changes it: the API, the connection, and the person. Views are
// told by topic what to draw again; nothing in here knows an element.

import { Api } from './api.js';
import { deviceOf } from './auth.js';
import { Connection } from './connection.js';
import { Session } from './session.js';
import { Timeline } from './timeline.js';

/** Messages of a channel that are kept while its end is on screen. */
const KEEP = 600;
/** Messages of a thread that are kept. */
const KEEP_REPLIES = 2_000;
/** Somebody who said that they type is taken to be typing for so long, in ms. */
const TYPING_MS = 5_000;
/** Channels that the page listens to: a socket may join 1,000. */
const JOINS = 900;
/** Channels of one's own that are asked for by id: that many in all, so many at once. */
const OWN_BEYOND = 900;
const OWN_AT_ONCE = 8;
/** While a channel is on screen, who listens to it is asked again this often, in ms. */
const HERE_MS = 15_000;
/** After a change of the membership, who belongs to the channel is asked so much later, in ms. */
const MEMBERS_MS = 500;
/** Users who are watched: 200 at most, some of them partners of direct channels. */
const WATCHED_MEMBERS = 120;
const TEXT_BYTES = 16_384;
const CAUGHT_UP_MS = 500;
/** After an error the newest page is read again, in ms. */
const LOAD_AGAIN_MS = 2_000;
/** What is unread is asked for at most so often, in ms; so long the first of many askers waits. */
const RECOUNT_MS = 1_000;
/** While the store is behind a join it is asked again this often, in ms. */
const BEHIND_MS = 5_000;
/** Names that an address below /ui means otherwise; such a channel goes by its id. */
const TAKEN = ['dashboard', 'sign-in', '.', '..'];

/** @typedef {{id: string, name: string, picture?: string, status?: string, version: number}} User */

/** A channel of the page. @returns {object} */
const place = (channel) => ({
  ...channel,
  timeline: new Timeline(),
  /** The head of the last join that could not go on from a cursor, 0 where nobody knew it; null while
   * none was answered. */
  joinedAt: null,
  loading: false,
  loadError: null,
  loadTimer: 0,
  /** As the server counts it, and what came since. */
  read: 0,
  unread: 0,
  /** The head at which the server counted: a record through here is in `unread` already. */
  countedThrough: 0,
  lastMs: channel.created_ms,
  /** The line "new" stands above what is above this; null for none. */
  newSince: null,
  /** The first of them, and whether there are more. */
  members: null,
  moreMembers: false,
  membersAsked: 0,
  membersTimer: 0,
  here: null,
  /** By user: the furthest of their devices. */
  receipts: new Map(),
  typing: new Map(),
  draft: '',
});

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
    /** @type {Map<string, User>} */
    this.users = new Map();
    this.wantedUsers = new Set();
    /** @type {Map<string, string>} */
    this.presence = new Map();
    this.me = '';
    this.current = null;
    /** The thread beside the channel: `{channel, root, timeline, loading, error}`. */
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
    this.users.set(me.id, me);
    for (const channel of channels) this.channels.set(channel.id, place(channel));
    const unread = await this.api.unread();
    for (const channel of await this.#ownBeyond(unread)) this.channels.set(channel.id, place(channel));
    await this.knowNow(this.#mine().flatMap((one) => one.with ?? []));
    this.#countUnread(unread);
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
    setInterval(() => this.#askWhoIsHere(), HERE_MS);
  }

  stop() {
    this.connection?.stop();
    this.#saveOutbox();
  }

  // --- what the views ask

  user(id) {
    const user = this.users.get(id);
    if (!user) this.want([id]);
    return user ?? { id, name: id, version: 0 };
  }

  nameOf(id) {
    return this.user(id).name;
  }

  here() {
    return this.current === null ? null : (this.channels.get(this.current) ?? null);
  }

  /** What a channel is called by people. */
  title(channel) {
    if (channel.kind !== 'direct') return channel.name;
    return channel.with === this.me ? `${this.nameOf(this.me)} (you)` : this.nameOf(channel.with);
  }

  /** Where a channel is, without the query. */
  pathOf(channel) {
    const byId = channel.kind === 'direct' || TAKEN.includes(channel.name);
    return `/ui/${encodeURIComponent(byId ? channel.id : channel.name)}`;
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
    const all = [...this.users.values()].filter((user) => user.id !== this.me);
    return all.sort((a, b) => a.name.localeCompare(b.name));
  }

  typists(channel) {
    const now = Date.now();
    return [...channel.typing].filter(([, until]) => until > now).map(([user]) => user);
  }

  // --- users

  /** Asks for users that are not known, together, in a moment. */
  want(ids) {
    const before = this.wantedUsers.size;
    for (const id of ids) this.wantedUsers.add(id);
    if (before === 0 && this.wantedUsers.size > 0) setTimeout(() => this.#fetchUsers(), 30);
  }

  async knowNow(ids) {
    const unknown = [...new Set(ids)].filter((id) => !this.users.has(id));
    if (unknown.length > 0) this.#keepUsers(await this.api.users(unknown));
  }

  async #fetchUsers() {
    const ids = [...this.wantedUsers];
    this.wantedUsers.clear();
    try {
      this.#keepUsers(await this.api.users(ids));
    } catch {
      // They are shown by their ids until something asks again.
    }
  }

  #keepUsers(users) {
    for (const user of users) {
      const known = this.users.get(user.id);
      if (!known || known.version <= user.version) this.users.set(user.id, user);
    }
    if (users.length > 0) this.changed('users');
  }

  /** @param {{name?: string, status?: string}} patch */
  async changeMe(patch) {
    this.#keepUsers([await this.api.changeMe(patch)]);
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

  #countUnread(answer) {
    for (const one of answer.channels) {
      const channel = this.channels.get(one.channel);
      if (!channel) continue;
      channel.read = Math.max(channel.read, one.read);
      if (one.last_ts_ms > 0) channel.lastMs = one.last_ts_ms;
      // It has not heard how far we are: what was counted here is nearer the truth.
      if (one.read < channel.read) continue;
      // What came live and is not stored yet is not in its count.
      channel.unread = one.unread + this.#othersAbove(channel, Math.max(one.head, one.read));
      channel.countedThrough = one.head;
    }
    this.changed('channels');
  }

  /** Messages of others above a seq, as far as they are here. */
  #othersAbove(channel, seq) {
    const above = (one) => one.type === 'message' && one.seq > seq && one.user !== this.me;
    return channel.timeline.list().filter(above).length;
  }

  /** Asks again what is unread, in a moment and once for all who want it by then. */
  async #recount() {
    this.recountWanted = true;
    if (this.recounting) return;
    this.recounting = true;
    for (let pause = RECOUNT_MS; this.recountWanted; ) {
      await new Promise((done) => setTimeout(done, pause));
      this.recountWanted = false;
      pause = RECOUNT_MS;
      if (await this.#recountNow()) continue;
      this.recountWanted = true;
      pause = BEHIND_MS;
    }
    this.recounting = false;
  }

  /** False: it is to be asked again. */
  async #recountNow() {
    try {
      this.#countUnread(await this.api.unread());
    } catch (error) {
      return !error.retryable;
    }
    this.markRead();
    // What lies between its head and that of a join comes to us in no other way.
    return this.#mine().every((one) => one.joinedAt <= Math.max(one.countedThrough, one.read));
  }

  /** Looks again at which channels there are and what is unread in them. */
  async refresh() {
    try {
      const [channels, unread] = await Promise.all([this.api.channels(), this.api.unread()]);
      for (const channel of channels) this.#know(channel);
      for (const channel of await this.#ownBeyond(unread)) this.#know(channel);
      this.#countUnread(unread);
      this.markRead();
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
    if (channel.with) this.want([channel.with].filter((id) => !this.users.has(id)));
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
      this.#loadNewest(channel),
      this.#loadMembers(channel),
      this.#loadReceipts(channel),
      this.#askWhoIsHere(),
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

  // --- history

  /** The newest page, through the point from which everything comes live. */
  async #loadNewest(channel) {
    if (channel.timeline.loaded || channel.loading) return;
    channel.loading = true;
    channel.loadError = null;
    this.changed('log');
    const joinedAt = channel.joinedAt;
    try {
      const page = await this.api.messages(
        channel.id,
        joinedAt > 0 ? { at_least: joinedAt } : undefined,
      );
      channel.loading = false;
      if (channel.joinedAt !== joinedAt || page.head < (joinedAt ?? 0)) {
        // Joined meanwhile, or the store is behind the point from which it comes live.
        const pause = page.head < (joinedAt ?? 0) ? CAUGHT_UP_MS : 0;
        if (joinedAt === null) channel.timeline.replaceThrough(page.head, page);
        channel.timeline.loaded = false;
        this.#loadLater(channel, pause);
      } else {
        channel.timeline.replaceThrough(joinedAt || page.head, page);
        // Without a join yet it is shown, and read again when that is answered.
        channel.timeline.loaded = joinedAt !== null;
        this.#meet(page.messages);
      }
    } catch (error) {
      channel.loading = false;
      channel.loadError = error.message;
      if (error.code === 'channel_not_found') this.#forget(channel.id);
      else if (error.retryable) this.#loadLater(channel, LOAD_AGAIN_MS);
    }
    this.changed('log');
    this.markRead();
  }

  /** The newest page again after a pause, if it is on screen then. */
  #loadLater(channel, pause) {
    clearTimeout(channel.loadTimer);
    channel.loadTimer = setTimeout(() => {
      if (this.here() === channel && channel.is_member) this.#loadNewest(channel);
    }, pause);
  }

  /** The page before the oldest one, if there is one. */
  async loadOlder() {
    const channel = this.here();
    const { timeline } = channel ?? {};
    const oldest = timeline?.oldest();
    if (!channel?.is_member || channel.loading || !timeline.hasOlder || !oldest) return;
    channel.loading = true;
    channel.loadError = null;
    this.changed('log');
    try {
      const page = await this.api.messages(channel.id, { before: oldest });
      if (channel.timeline === timeline && timeline.oldest() === oldest) timeline.addOlder(page);
      this.#meet(page.messages);
    } catch (error) {
      channel.loadError = error.message;
    }
    channel.loading = false;
    this.changed('log');
    // Joined anew meanwhile, where the newest page could not be read beside this one.
    if (!channel.timeline.loaded) this.#loadLater(channel, 0);
  }

  /** Reads what could not be read a moment ago. */
  async readAgain() {
    const channel = this.here();
    if (channel?.timeline.loaded) await this.loadOlder();
    else if (channel?.is_member) await this.#loadNewest(channel);
  }

  #meet(records) {
    const ids = records.flatMap((one) => [one.user, one.member]).filter(Boolean);
    this.want(ids.filter((id) => !this.users.has(id)));
  }

  /** Reads in a moment who belongs to it, once for all who come and go until then. */
  #membersChanged(channel) {
    channel.membersTimer ||= setTimeout(() => {
      channel.membersTimer = 0;
      if (this.current === channel.id) this.#loadMembers(channel);
      else channel.members = null;
    }, MEMBERS_MS);
  }

  async #loadMembers(channel) {
    channel.membersAsked += 1;
    const asked = channel.membersAsked;
    try {
      const { items, next } = await this.api.members(channel.id);
      // An answer that was overtaken may be older.
      if (channel.membersAsked !== asked) return;
      this.#keepUsers(items.map((member) => member.user));
      channel.members = items.map(({ user, role }) => ({ user: user.id, role }));
      channel.moreMembers = (next ?? null) !== null;
      this.#watchPeople();
      this.changed('people');
      this.changed('head');
    } catch {
      // Read again when the channel is opened again.
    }
  }

  async #loadReceipts(channel) {
    if (channel.kind !== 'direct') return;
    try {
      const { receipts } = await this.api.receipts(channel.id);
      for (const receipt of receipts) this.#keepReceipt(channel, receipt);
      this.changed('log');
    } catch {
      // The next receipt says more.
    }
  }

  async #askWhoIsHere() {
    const channel = this.here();
    if (!channel?.is_member || document.visibilityState !== 'visible') return;
    try {
      const { users, complete } = await this.api.listeners(channel.id);
      channel.here = { users: new Set(users.map((one) => one.user)), complete };
      this.#keepUsers(await this.api.users([...channel.here.users].filter((id) => !this.users.has(id))));
      this.changed('people');
      this.changed('head');
    } catch {
      // What was known stays on screen; the next look tells.
    }
  }

  #watchPeople() {
    const members = (this.here()?.members ?? []).slice(0, WATCHED_MEMBERS);
    const partners = this.sections().direct.map((one) => one.with);
    const all = new Set([this.me, ...members.map((one) => one.user), ...partners]);
    this.session.watch([...all].slice(0, 200));
    this.connection?.pump();
  }

  // --- threads

  async openThread(root) {
    const channel = this.here();
    if (!channel) return;
    const thread = {
      channel: channel.id,
      root,
      timeline: new Timeline(),
      loading: true,
      error: null,
    };
    thread.timeline.hasOlder = false;
    const known = channel.timeline.bySeq.get(root);
    this.thread = thread;
    this.changed('thread');
    try {
      await this.#readThread(channel, thread, thread.timeline);
    } catch (error) {
      thread.error = error.message;
      if (known) thread.timeline.add(recordOf(known));
    }
    thread.loading = false;
    this.changed('thread');
  }

  /** Reads a thread's pages into a timeline, and what came live meanwhile. */
  async #readThread(channel, thread, timeline) {
    const { root } = thread;
    let after;
    for (;;) {
      const page = await this.api.replies(channel.id, root, after);
      if (this.thread !== thread) return;
      for (const record of [page.root, ...page.messages]) timeline.add(record, page.head);
      trimThread({ root, timeline });
      this.#meet([page.root, ...page.messages]);
      after = page.messages.at(-1)?.seq;
      if (!page.has_more || after === undefined) break;
    }
    for (const entry of channel.timeline.list()) {
      if (entry.thread === root) timeline.add(recordOf(entry));
    }
    for (const change of channel.timeline.changes) timeline.add(change);
    for (const sent of channel.timeline.pending.values()) {
      if (sent.thread === root) timeline.addPending(sent);
    }
  }

  /** What lies between the last record and a join that could not go on is in the store alone. */
  async #readThreadAgain(channel, thread) {
    const timeline = new Timeline();
    timeline.hasOlder = false;
    try {
      await this.#readThread(channel, thread, timeline);
      // The thread itself stays: a reply that is being written belongs to it.
      thread.timeline = timeline;
      thread.error = null;
    } catch (error) {
      thread.error = error.message;
    }
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
    this.#askWhoIsHere();
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
      this.#askWhoIsHere();
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
          // Receipts are in no log: those of the time away are asked for.
          if (this.current === channel.id) this.#loadReceipts(channel);
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
        if (channel && output.user !== this.me) this.#onTyping(channel, output.user);
        break;
      case 'presence':
        this.#onPresence(output);
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
    if (this.current === channel.id) this.#loadNewest(channel);
    if (this.thread?.channel === channel.id) this.#readThreadAgain(channel, this.thread);
    // What came before the head and after the count is told by nobody.
    if (head === null || head > channel.countedThrough) this.#recount();
  }

  async #onDirect({ channel, head, with: partner }) {
    let known = this.channels.get(channel);
    if (!known) {
      const user = this.me;
      known = place({ id: channel, kind: 'direct', name: null, created_by: user, created_ms: Date.now() });
      known.is_member = true;
      known.with = partner ?? this.me;
      this.channels.set(channel, known);
      if (partner) this.want([partner].filter((id) => !this.users.has(id)));
      this.#watchPeople();
      // What was said before the page was told of it.
      this.refresh();
    }
    known.joinedAt = head ?? 0;
    known.timeline.loaded = false;
    if (this.current === channel) this.#loadNewest(known);
    this.changed('channels');
  }

  #onRecord(channel, record, old) {
    const { timeline } = channel;
    this.want([record.user, record.member].filter((id) => id && !this.users.has(id)));
    switch (record.type) {
      case 'identity_change':
        if ((this.users.get(record.user)?.version ?? 0) < record.version) this.want([record.user]);
        return;
      case 'member_joined':
      case 'member_left':
        this.#membersChanged(channel);
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
    const { thread } = this;
    const { root, timeline } = thread;
    const belongs = record.type === 'message' ? record.thread === root : record.target !== undefined;
    if (!belongs) return;
    timeline.add(record);
    trimThread(thread);
    this.changed('thread');
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
      else this.#recount();
      this.changed('channels');
      return;
    }
    this.#keepReceipt(channel, receipt);
    if (this.current === channel.id) this.#drawn();
  }

  #keepReceipt(channel, { user, delivered, read }) {
    if (user === this.me && channel.with !== this.me) return;
    const known = channel.receipts.get(user) ?? { delivered: 0, read: 0 };
    channel.receipts.set(user, {
      delivered: Math.max(known.delivered, delivered),
      read: Math.max(known.read, read),
    });
  }

  #onTyping(channel, user) {
    channel.typing.set(user, Date.now() + TYPING_MS);
    if (this.current !== channel.id) return;
    this.changed('typing');
    setTimeout(() => this.changed('typing'), TYPING_MS + 50);
  }

  #onPresence({ user, state }) {
    if (this.presence.get(user) === state) return;
    this.presence.set(user, state);
    this.changed('presence');
    clearTimeout(this.hereTimer);
    this.hereTimer = setTimeout(() => this.#askWhoIsHere(), 500);
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

/** Keeps the message that began a thread, and its newest replies. */
function trimThread({ root, timeline }) {
  const began = timeline.bySeq.get(root);
  timeline.trim(KEEP_REPLIES);
  if (began && !timeline.bySeq.has(root)) timeline.add(recordOf(began));
}

/** A message of a timeline as it would come from history. */
function recordOf(entry) {
  const reactions = [...entry.reactions].map(([reaction, users]) => ({ reaction, users: [...users] }));
  const { type, seq, user, message_id, text, ts_ms, thread, edited, deleted, replies } = entry;
  const copy = replies ? { ...replies } : undefined;
  const inThread = thread ?? undefined;
  return { type, seq, user, message_id, text, ts_ms, thread: inThread, edited, deleted, reactions, replies: copy };
}

/** A change of one's own as everybody hears it. */
function changeRecord(change, { seq, user, ts_ms }) {
  const base = { seq, user, ts_ms, target: change.target };
  switch (change.type) {
    case 'edit':
      return { ...base, type: 'message_changed', text: change.text };
    case 'delete':
      return { ...base, type: 'message_deleted' };
    default: {
      const type = change.remove ? 'reaction_removed' : 'reaction_added';
      return { ...base, type, reaction: change.reaction };
    }
  }
}
