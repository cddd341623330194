// Pages of a channel's history, as the page reads them.

/** While the store is behind a join the newest page is read again this often, in ms. */
const CAUGHT_UP_MS = 500;
/** After an error the newest page is read again, in ms. */
const LOAD_AGAIN_MS = 2_000;

export class ChannelHistory {
  /**
   * @param {object} page
   * @param {() => import('./api.js').Api} page.api
   * @param {import('./users.js').Users} page.users
   * @param {() => object | null} page.shown the channel on screen
   * @param {(topic: string) => void} page.changed
   * @param {() => void} page.read the newest page is there, or cannot be had now
   * @param {(id: string) => void} page.gone there is no such channel any more
   */
  constructor({ api, users, shown, changed, read, gone }) {
    this.api = api;
    this.users = users;
    this.shown = shown;
    this.changed = changed;
    this.read = read;
    this.gone = gone;
  }

  /** The newest page, through the point from which everything comes live. */
  async loadNewest(channel) {
    if (channel.timeline.loaded || channel.loading) return;
    channel.loading = true;
    channel.loadError = null;
    this.changed('log');
    const joinedAt = channel.joinedAt;
    try {
      const page = await this.api().messages(
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
        this.users.meetIn(page.messages);
      }
    } catch (error) {
      channel.loading = false;
      channel.loadError = error.message;
      if (error.code === 'channel_not_found') this.gone(channel.id);
      else if (error.retryable) this.#loadLater(channel, LOAD_AGAIN_MS);
    }
    this.changed('log');
    this.read();
  }

  /** The newest page again after a pause, if it is on screen then. */
  #loadLater(channel, pause) {
    clearTimeout(channel.loadTimer);
    channel.loadTimer = setTimeout(() => {
      if (this.shown() === channel && channel.is_member) this.loadNewest(channel);
    }, pause);
  }

  /** The page before the oldest one, if there is one. */
  async loadOlder() {
    const channel = this.shown();
    const { timeline } = channel ?? {};
    const oldest = timeline?.oldest();
    if (!channel?.is_member || channel.loading || !timeline.hasOlder || !oldest) return;
    channel.loading = true;
    channel.loadError = null;
    this.changed('log');
    try {
      const page = await this.api().messages(channel.id, { before: oldest });
      if (channel.timeline === timeline && timeline.oldest() === oldest) timeline.addOlder(page);
      this.users.meetIn(page.messages);
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
    const channel = this.shown();
    if (channel?.timeline.loaded) await this.loadOlder();
    else if (channel?.is_member) await this.loadNewest(channel);
  }
}
