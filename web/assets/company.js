// Who belongs to the channel on screen, who listens to it, how far they have read and who of them is
// there.

/** After a change of the membership, who belongs to the channel is asked so much later, in ms. */
const MEMBERS_MS = 500;
/** After a change of presence, who listens is asked so much later, in ms. */
const PRESENCE_MS = 500;
/** Users who are watched, at most, and how many of them may be members of the channel on screen. */
const WATCHED = 200;
const WATCHED_MEMBERS = 120;
/** Somebody who said that they type is taken to be typing for so long, in ms. */
const TYPING_MS = 5_000;

export class Company {
  /**
   * @param {object} page
   * @param {() => import('./api.js').Api} page.api
   * @param {import('./users.js').Users} page.users
   * @param {() => object | null} page.shown the channel on screen
   * @param {() => string} page.me the person's id
   * @param {(topic: string) => void} page.changed
   */
  constructor({ api, users, shown, me, changed }) {
    this.api = api;
    this.users = users;
    this.shown = shown;
    this.me = me;
    this.changed = changed;
    /** @type {Map<string, string>} */
    this.presence = new Map();
    this.askTimer = 0;
  }

  /** Whose presence is worth knowing: one's own, of those here, and of these. */
  toWatch(partners) {
    const members = (this.shown()?.members ?? []).slice(0, WATCHED_MEMBERS);
    const all = new Set([this.me(), ...members.map((one) => one.user), ...partners]);
    return [...all].slice(0, WATCHED);
  }

  /** Reads in a moment who belongs to it, once for all who come and go until then. */
  membersChanged(place, read) {
    place.membersTimer ||= setTimeout(() => {
      place.membersTimer = 0;
      if (this.shown() === place) read();
      else place.members = null;
    }, MEMBERS_MS);
  }

  /** True: who belongs to it is known now. */
  async loadMembers(place) {
    place.membersAsked += 1;
    const asked = place.membersAsked;
    try {
      const { items, next } = await this.api().members(place.id);
      // An answer that was overtaken may be older.
      if (place.membersAsked !== asked) return false;
      this.users.keep(items.map((member) => member.user));
      place.members = items.map(({ user, role }) => ({ user: user.id, role }));
      place.moreMembers = (next ?? null) !== null;
    } catch {
      // Read again when the channel is opened again.
      return false;
    }
    this.changed('people');
    this.changed('head');
    return true;
  }

  /** Asks who listens to the channel on screen, if it is looked at. */
  async askWhoIsHere() {
    const place = this.shown();
    if (!place?.is_member || document.visibilityState !== 'visible') return;
    try {
      const { users, complete } = await this.api().listeners(place.id);
      place.here = { users: new Set(users.map((one) => one.user)), complete };
      await this.users.knowNow(place.here.users);
      this.changed('people');
      this.changed('head');
    } catch {
      // What was known stays on screen; the next look tells.
    }
  }

  onPresence({ user, state }) {
    if (this.presence.get(user) === state) return;
    this.presence.set(user, state);
    this.changed('presence');
    clearTimeout(this.askTimer);
    this.askTimer = setTimeout(() => this.askWhoIsHere(), PRESENCE_MS);
  }

  /** Receipts are in no log: those of a direct channel are asked for. */
  async loadReceipts(place) {
    if (place.kind !== 'direct') return;
    try {
      const { receipts } = await this.api().receipts(place.id);
      for (const receipt of receipts) this.onReceipt(place, receipt);
    } catch {
      // The next receipt says more.
    }
  }

  /** Of a user's devices the furthest counts. */
  onReceipt(place, { user, delivered, read }) {
    if (user === this.me() && place.with !== user) return;
    const known = place.receipts.get(user) ?? { delivered: 0, read: 0 };
    place.receipts.set(user, {
      delivered: Math.max(known.delivered, delivered),
      read: Math.max(known.read, read),
    });
    if (this.shown() !== place) return;
    this.changed('log');
    this.changed('thread');
  }

  typists(place) {
    const now = Date.now();
    return [...place.typing].filter(([, until]) => until > now).map(([user]) => user);
  }

  onTyping(place, user) {
    place.typing.set(user, Date.now() + TYPING_MS);
    if (this.shown() !== place) return;
    this.changed('typing');
    setTimeout(() => this.changed('typing'), TYPING_MS + 50);
  }
}
