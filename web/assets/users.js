// Everybody whom the page has met.

/** Users that are asked for within so long are asked for together, in ms. */
const TOGETHER_MS = 30;

/** @typedef {{id: string, name: string, picture?: string, status?: string, version: number}} User */

export class Users {
  /**
   * @param {(ids: string[]) => Promise<User[]>} fetch asks the server
   * @param {() => void} changed somebody is known, or known better
   */
  constructor(fetch, changed) {
    this.fetch = fetch;
    this.changed = changed;
    /** @type {Map<string, User>} */
    this.known = new Map();
    this.wanted = new Set();
  }

  /** A user; one who is not known is asked for, and goes by the id until then. */
  get(id) {
    const user = this.known.get(id);
    if (!user) this.want([id]);
    return user ?? { id, name: id, version: 0 };
  }

  nameOf(id) {
    return this.get(id).name;
  }

  /** All of them by name, without this one. */
  others(id) {
    const all = [...this.known.values()].filter((user) => user.id !== id);
    return all.sort((a, b) => a.name.localeCompare(b.name));
  }

  /** Asks for those of them who are not known, in a moment. */
  meet(ids) {
    this.want(ids.filter((id) => id && !this.known.has(id)));
  }

  /** As {@link meet}, for records: who made them, and whom they are about. */
  meetIn(records) {
    this.meet(records.flatMap((one) => [one.user, one.member]));
  }

  /** Asks for one who has changed since. */
  renew(id, version) {
    if ((this.known.get(id)?.version ?? 0) < version) this.want([id]);
  }

  /** Waits until those who are not known were asked for. Fails as the question does. */
  async knowNow(ids) {
    const unknown = [...new Set(ids)].filter((id) => !this.known.has(id));
    if (unknown.length > 0) this.keep(await this.fetch(unknown));
  }

  /** @param {User[]} users as the server tells them */
  keep(users) {
    for (const user of users) {
      const known = this.known.get(user.id);
      if (!known || known.version <= user.version) this.known.set(user.id, user);
    }
    if (users.length > 0) this.changed();
  }

  want(ids) {
    const before = this.wanted.size;
    for (const id of ids) this.wanted.add(id);
    if (before === 0 && this.wanted.size > 0) setTimeout(() => this.#fetchWanted(), TOGETHER_MS);
  }

  async #fetchWanted() {
    const ids = [...this.wanted];
    this.wanted.clear();
    try {
      this.keep(await this.fetch(ids));
    } catch {
      // They are shown by their ids until something asks again.
    }
  }
}
