// The list of channels and people, and who one is.

import { avatar, countText, h, icon, iconButton, patch } from './dom.js';

const STATES = { active: 'active', away: 'away', offline: 'offline' };

/** The dot that says whether somebody is there; only its place while that is not known. */
export function presenceDot(state) {
  const known = STATES[state];
  if (!known) return h('span', { class: 'presence unknown', 'aria-hidden': 'true' });
  return h('span', { class: `presence ${known}`, role: 'img', 'aria-label': known, title: known });
}

export class Sidebar {
  /**
   * @param {import('./chat-model.js').ChatModel} model
   * @param {object} parts
   * @param {(channel: object) => string} parts.hrefOf
   * @param {(channel: object) => void} parts.onOpen
   * @param {() => void} parts.onNewChannel
   * @param {() => void} parts.onNewDirect
   * @param {() => void} parts.onProfile
   * @param {() => void} parts.onClose closes the drawer of narrow screens
   * @param {string} parts.dashboard address of the dashboard
   */
  constructor(model, { hrefOf, onOpen, onNewChannel, onNewDirect, onProfile, onClose, dashboard }) {
    Object.assign(this, { model, hrefOf, onOpen });
    this.lists = { channels: h('ul'), direct: h('ul'), others: h('ul') };
    const section = (title, list, action) =>
      h('section', {}, h('div', { class: 'section-head' }, h('h2', {}, title), action), list);
    this.others = section('More channels', this.lists.others);
    this.me = h('button', { type: 'button', class: 'me', onclick: onProfile });
    this.element = h(
      'nav',
      { class: 'sidebar', id: 'sidebar', 'aria-label': 'Channels' },
      h(
        'div',
        { class: 'brand' },
        h('span', { class: 'brand-name' }, 'Hubbub'),
        h('a', { class: 'icon-button', href: dashboard, 'aria-label': 'Dashboard', title: 'Dashboard' }, icon('chart')),
        iconButton('close', 'Close the list of channels', onClose, { class: 'icon-button narrow-only' }),
      ),
      h(
        'div',
        { class: 'lists' },
        section('Channels', this.lists.channels, iconButton('plus', 'New channel', onNewChannel)),
        section('Direct messages', this.lists.direct, iconButton('plus', 'New direct message', onNewDirect)),
        this.others,
      ),
      this.me,
    );
  }

  draw() {
    const { model } = this;
    const sections = model.sections();
    for (const [name, list] of Object.entries(this.lists)) {
      patch(list, sections[name].map((channel) => this.#item(channel)));
    }
    this.others.hidden = sections.others.length === 0;
    this.#drawMe();
  }

  #item(channel) {
    const { model } = this;
    const title = model.title(channel);
    const current = model.current === channel.id;
    const direct = channel.kind === 'direct';
    const state = direct ? (model.presenceOf(channel.with) ?? 'unknown') : '';
    const sign = [title, current, channel.unread, state, channel.kind, this.hrefOf(channel)].join('\u001f');
    const make = () => {
      const unread = channel.unread > 0;
      const mark = direct ? presenceDot(state) : icon(channel.kind === 'private' ? 'lock' : 'hash');
      const link = h(
        'a',
        {
          href: this.hrefOf(channel),
          class: unread ? 'unread' : null,
          'aria-current': current ? 'page' : null,
          'data-name': 'link',
          'data-channel': channel.id,
          onclick: (event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
            event.preventDefault();
            this.onOpen(channel);
          },
        },
        mark,
        h('span', { class: 'title' }, title),
        unread ? h('span', { class: 'badge' }, countText(channel.unread), h('span', { class: 'unseen' }, ' unread')) : null,
      );
      return h('li', {}, link);
    };
    return { key: channel.id, sign, make };
  }

  #drawMe() {
    const { model } = this;
    const user = model.user(model.me);
    this.me.replaceChildren(
      avatar(user),
      h('span', { class: 'me-text' }, h('span', { class: 'name' }, user.name), h('span', { class: 'status' }, user.status ?? 'Set a status')),
      h('span', { class: 'unseen' }, 'You: change your name or status'),
    );
  }
}
