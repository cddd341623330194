// What stands beside the channel: a thread, or the people of the channel.

import { avatar, counted, countText, h, iconButton, patch, replace } from './dom.js';
import { Composer } from './view-composer.js';
import { LogView } from './view-log.js';
import { presenceDot } from './view-sidebar.js';

const panel = (label, title, onClose, ...children) =>
  h(
    'aside',
    { class: 'side', 'aria-label': label },
    h('header', { class: 'side-head' }, title, iconButton('close', `Close: ${label.toLowerCase()}`, onClose)),
    ...children,
  );

export class ThreadView {
  /** @param {import('./chat-model.js').ChatModel} model */
  constructor(model, { onSeen, onClose }) {
    this.model = model;
    this.root = null;
    this.log = new LogView(model, {
      label: 'Messages of the thread',
      source: () => model.thread,
      inThread: true,
      onThread: () => {},
      onSeen,
      onEscape: () => this.composer.focus(),
    });
    this.composer = new Composer({
      label: 'Reply',
      onSend: (text) => {
        const wrong = model.say(text, model.thread.root);
        if (!wrong) this.log.wasAtEnd = true;
        return wrong;
      },
      onTyping: () => model.typing(),
      onUp: () => this.log.editLast(),
      onEscape: onClose,
    });
    this.problem = h('p', { class: 'problem', role: 'alert' });
    this.element = panel('Thread', h('h2', {}, 'Thread'), onClose, this.problem, this.log.outer, this.composer.element);
  }

  draw() {
    const { thread } = this.model;
    if (!thread) return;
    if (this.root !== thread) {
      this.root = thread;
      this.composer.draft = '';
    }
    this.problem.textContent = thread.error ? `The thread cannot be read now: ${thread.error}.` : '';
    this.log.draw();
  }
}

const ORDER = { active: 0, away: 1, offline: 2, unknown: 3 };

/** How many members it has: the page reads the first of them alone. */
export function membersText({ members, moreMembers }) {
  const count = members?.length ?? 0;
  return moreMembers ? `${countText(count)}+ members` : counted(count, 'member');
}

export class PeopleView {
  /** @param {import('./chat-model.js').ChatModel} model */
  constructor(model, { onDirect, onAdd, onLeave, onClose }) {
    this.model = model;
    this.onDirect = onDirect;
    this.list = h('ul', { class: 'people' });
    this.note = h('p', { class: 'muted note' });
    this.add = h('button', { type: 'button', class: 'button small', onclick: onAdd }, 'Add somebody');
    this.leave = h('button', { type: 'button', class: 'button small', onclick: onLeave }, 'Leave the channel');
    this.element = panel(
      'People',
      h('h2', {}, 'People'),
      onClose,
      this.note,
      h('div', { class: 'side-scroll' }, this.list),
      h('div', { class: 'buttons side-foot' }, this.add, this.leave),
    );
  }

  draw() {
    const { model } = this;
    const channel = model.here();
    if (!channel) return;
    const members = channel.members ?? [];
    const here = channel.here?.users ?? new Set();
    const stateOf = (id) => model.presenceOf(id) ?? 'unknown';
    const sorted = [...members].sort(
      (a, b) =>
        here.has(b.user) - here.has(a.user) ||
        ORDER[stateOf(a.user)] - ORDER[stateOf(b.user)] ||
        model.nameOf(a.user).localeCompare(model.nameOf(b.user)),
    );
    const some = channel.here && !channel.here.complete ? ' Not every server has answered.' : '';
    this.note.textContent = `${membersText(channel)}, ${here.size} here now.${some}`;
    const direct = channel.kind === 'direct';
    this.add.hidden = direct;
    this.leave.hidden = direct;
    patch(
      this.list,
      sorted.map(({ user: id, role }) => {
        const user = model.user(id);
        const state = stateOf(id);
        const isHere = here.has(id);
        const sign = [user.name, user.status, user.picture, state, isHere, role].join('\u001f');
        const make = () =>
          h(
            'li',
            { 'data-user': id },
            h('span', { class: 'with-dot' }, avatar(user), presenceDot(state)),
            h(
              'span',
              { class: 'person' },
              h('span', { class: 'name' }, user.name, id === model.me ? ' (you)' : ''),
              h('span', { class: 'status' }, user.status ?? ''),
            ),
            isHere ? h('span', { class: 'tag' }, 'here') : null,
            role === 'admin' ? h('span', { class: 'tag quiet' }, 'admin') : null,
            id === model.me
              ? null
              : iconButton('reply', `Message ${user.name}`, () => this.onDirect(id), { 'data-name': 'direct' }),
          );
        return { key: id, sign, make };
      }),
    );
  }
}

/** One place for the two. */
export class Side {
  constructor() {
    this.element = h('div', { class: 'side-place' });
    this.view = null;
  }

  show(view) {
    if (this.view === view) return;
    this.view = view;
    replace(this.element, view?.element);
    this.element.classList.toggle('open', view !== null);
  }
}
