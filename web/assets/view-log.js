// The messages of a channel or of a thread, and what can be done to each.

import {
  avatar, counted, countText, dayText, fullText, h, icon, iconButton, linked, patch, timeText,
} from './dom.js';
import { rowsOf, signOf } from './timeline.js';

/** So near to the end counts as being there, in pixels. */
const NEAR_END = 48;
/** So near to the top older messages are fetched. */
const NEAR_TOP = 400;
const REACTIONS = ['👍', '❤️', '😂', '🎉', '👀', '✅', '🙏', '🤔'];

const SIGNS = {
  pending: ['…', 'Sending'],
  sent: ['✓', 'Sent'],
  delivered: ['✓✓', 'Delivered'],
  read: ['✓✓', 'Read'],
};

/** Keyed by what may have changed of a row, so that the rest of them stay as they are. */
const signed = (...parts) => parts.join('\u001f');

export class LogView {
  /**
   * @param {import('./chat-model.js').ChatModel} model
   * @param {object} parts
   * @param {string} parts.label what it is called
   * @param {() => object|null} parts.source the channel, or the thread
   * @param {boolean} parts.inThread
   * @param {(seq: number) => void} parts.onThread opens a thread
   * @param {(seq: number) => void} parts.onSeen shows what became of a message
   * @param {() => void} parts.onEscape
   */
  constructor(model, { label, source, inThread, onThread, onSeen, onEscape }) {
    Object.assign(this, { model, source, inThread, onThread, onSeen, onEscape });
    this.editing = null;
    this.shown = null;
    /** Whether what is shown has its place on screen: before there is history it has none. */
    this.landed = false;
    this.toolbar = h('div', { class: 'actions', role: 'toolbar', 'aria-label': 'Message actions' });
    // New messages are read out by the page's own region: history that is loaded is not news.
    this.element = h('div', { class: 'log', role: 'log', 'aria-live': 'off', tabindex: '0', 'aria-label': label });
    const toEnd = () => this.scrollToEnd();
    this.toEnd = h('button', { type: 'button', class: 'to-end', onclick: toEnd, hidden: true }, icon('down'), h('span', {}, 'Newest'));
    this.outer = h('div', { class: 'log-outer' }, this.element, this.toEnd);
    this.element.addEventListener('scroll', () => this.#onScroll(), { passive: true });
    this.element.addEventListener('keydown', (event) => this.#onKey(event));
    for (const kind of ['pointerover', 'focusin']) {
      this.element.addEventListener(kind, (event) => this.#offerActions(event.target));
    }
    this.element.addEventListener('pointerleave', () => this.#offerActions(document.activeElement));
    new ResizeObserver(() => this.#keepEnd()).observe(this.element);
    this.wasAtEnd = true;
  }

  setLabel(label) {
    this.element.setAttribute('aria-label', label);
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** Draws what is there now. */
  draw() {
    const source = this.source();
    const { element } = this;
    if (this.shown !== source) {
      this.shown = source;
      this.landed = false;
      this.editing = null;
      this.wasAtEnd = true;
    }
    if (!source) {
      element.replaceChildren();
      return;
    }
    const place = this.#place();
    patch(element, this.#rows(source));
    element.setAttribute('aria-busy', String(source.loading));
    const landing = !this.landed;
    this.landed ||= this.inThread ? !source.loading : source.timeline.begun;
    const line = landing && this.landed ? element.querySelector('.new-line') : null;
    if (line) this.#lineOnTop(line);
    else if (landing || this.wasAtEnd) this.scrollToEnd();
    else this.#restore(place);
    this.#look();
  }

  /** Begins to edit the newest of one's own messages; false: there is none. */
  editLast() {
    const { model } = this;
    const all = this.source()?.timeline.list() ?? [];
    const last = all.findLast((one) => one.type === 'message' && one.user === model.me && !one.deleted);
    if (!last) return false;
    this.#edit(last.seq);
    return true;
  }

  // --- rows

  #rows(source) {
    const { model } = this;
    const { timeline } = source;
    const lines = rowsOf(timeline, { me: model.me, newSince: source.newSince ?? null });
    const rows = lines.map((row) => this.#row(row, source));
    if (!this.inThread) rows.unshift(this.#top(source));
    return rows;
  }

  /** What stands above the oldest message. */
  #top(source) {
    const { timeline, loading, loadError } = source;
    let text = 'This is where it begins.';
    if (loadError) text = `The messages cannot be read now: ${loadError}.`;
    else if (loading) text = 'Reading…';
    else if (timeline.hasOlder) text = '';
    const again = () => this.model.history.readAgain();
    const button = loadError
      ? h('button', { type: 'button', class: 'text-button', 'data-name': 'read-again', onclick: again }, 'Try again')
      : null;
    return { key: 'top', sign: text, make: () => h('p', { class: 'top-line', tabindex: '-1' }, text, ' ', button) };
  }

  #row(row, source) {
    switch (row.kind) {
      case 'day': {
        const text = dayText(row.ms);
        return { key: row.key, sign: text, make: () => h('div', { class: 'day', role: 'separator' }, h('span', {}, text)) };
      }
      case 'new':
        return { key: row.key, sign: 'new', make: () => h('div', { class: 'day new-line', role: 'separator' }, h('span', {}, 'New')) };
      case 'member':
        return this.#memberRow(row);
      case 'pending':
        return this.#pendingRow(row);
      default:
        return this.#messageRow(row, source);
    }
  }

  #memberRow({ key, entry }) {
    const { model } = this;
    const [member, user] = [model.nameOf(entry.member), model.nameOf(entry.user)];
    const itself = entry.user === entry.member;
    let text;
    if (entry.type === 'member_joined') {
      text = itself ? `${member} joined.` : `${user} added ${member}.`;
    } else {
      text = itself ? `${member} left.` : `${user} removed ${member}.`;
    }
    return { key, sign: text, make: () => h('p', { class: 'member-line', tabindex: '-1', title: fullText(entry.ts_ms) }, text) };
  }

  #pendingRow({ key, sent }) {
    const { model } = this;
    const user = model.user(model.me);
    const failed = sent.state === 'failed';
    const sign = signed(sent.state, user.name, sent.error?.message);
    const make = () => {
      const again = () => model.again(sent.message_id);
      const discard = () => {
        model.discard(sent.message_id);
        this.onEscape();
      };
      return h(
        'article',
        { class: `message pending ${failed ? 'failed' : ''}`, tabindex: '-1', 'data-state': sent.state, 'data-id': sent.message_id },
        avatar(user),
        h('div', { class: 'message-head' }, h('span', { class: 'name' }, user.name), h('time', {}, timeText(sent.ts_ms))),
        h(
          'div',
          { class: 'message-body' },
          h('div', { class: 'text' }, ...linked(sent.text), ' ', failed ? null : stateSign(sent.state === 'sent' ? 'sent' : 'pending')),
          failed
            ? h(
                'p',
                { class: 'problem', role: 'alert' },
                `Not sent: ${sent.error.message}. `,
                h('button', { type: 'button', class: 'text-button', 'data-name': 'again', onclick: again }, 'Try again'),
                ' ',
                h('button', { type: 'button', class: 'text-button', 'data-name': 'discard', onclick: discard }, 'Discard'),
              )
            : null,
        ),
      );
    };
    return { key, sign, make };
  }

  #messageRow({ key, entry, continued }, source) {
    const { model, inThread } = this;
    const user = model.user(entry.user);
    const mine = entry.user === model.me;
    const editing = this.editing === entry.seq;
    const state = mine && !entry.deleted ? this.#stateOf(entry, source) : '';
    const root = !inThread && entry.thread !== null ? source.timeline.bySeq.get(entry.thread) : null;
    const about = root ? `${model.nameOf(root.user)} ${root.text}` : '';
    const others = [...entry.reactions.values()].flatMap((users) => [...users]);
    const names = [...others, ...(entry.replies?.users ?? [])].map((id) => model.nameOf(id)).join();
    const sign = editing
      ? 'editing'
      : signed(entry.version, entry.seq, continued, user.name, user.picture, state, about, names);
    const head = [
      h('span', { class: 'name' }, user.name),
      user.status ? h('span', { class: 'status' }, user.status) : null,
      h('time', { datetime: new Date(entry.ts_ms).toISOString(), title: fullText(entry.ts_ms) }, timeText(entry.ts_ms)),
    ];
    const make = () => {
      const classes = ['message', continued ? 'continued' : '', entry.deleted ? 'deleted' : '', mine ? 'mine' : ''];
      return h(
        'article',
        {
          class: classes.filter(Boolean).join(' '),
          tabindex: '-1',
          'aria-label': `${user.name}, ${timeText(entry.ts_ms)}`,
          'data-seq': entry.seq,
          'data-id': entry.message_id,
          'data-state': state || null,
        },
        continued ? h('time', { class: 'beside', 'aria-hidden': 'true' }, timeText(entry.ts_ms)) : avatar(user),
        continued ? null : h('div', { class: 'message-head' }, ...head),
        h('div', { class: 'message-body' }, ...this.#body(entry, { state, root, editing })),
      );
    };
    return { key, sign: signed(sign, user.status), make };
  }

  /** What became of one's own message. */
  #stateOf(entry, source) {
    const { model } = this;
    const channel = model.channels.get(this.inThread ? source.channel : source.id);
    return channel?.kind === 'direct' ? signOf(entry.seq, channel.receipts.values()) : 'sent';
  }

  #body(entry, { state, root, editing }) {
    const { model, inThread } = this;
    if (editing) return [this.#editor(entry)];
    const parts = [];
    if (!inThread && entry.thread !== null) {
      const onclick = () => this.onThread(entry.thread);
      const begin = root ? `${model.nameOf(root.user)}: ${root.deleted ? 'a deleted message' : root.text}` : 'an earlier message';
      parts.push(h('button', { type: 'button', class: 'quote', 'data-name': 'quote', onclick }, 'in answer to ', h('span', {}, begin)));
    }
    if (entry.deleted) {
      parts.push(h('p', { class: 'text gone' }, 'This message was deleted.'));
    } else {
      const text = entry.pendingText ?? entry.text;
      const by = entry.edited && entry.edited.user !== entry.user ? ` by ${model.nameOf(entry.edited.user)}` : '';
      parts.push(
        h(
          'div',
          { class: entry.pendingText ? 'text saving' : 'text' },
          ...linked(text),
          entry.edited ? h('span', { class: 'edited', title: fullText(entry.edited.ts_ms) }, ` (edited${by})`) : null,
          entry.pendingText ? h('span', { class: 'edited' }, ' (saving…)') : null,
          state ? [' ', stateSign(state)] : null,
        ),
      );
    }
    if (entry.reactions.size > 0) parts.push(this.#reactions(entry));
    if (!inThread && entry.replies?.count > 0) {
      const onclick = () => this.onThread(entry.seq);
      const names = entry.replies.users.slice(0, 3).map((id) => avatar(model.user(id), 'small'));
      parts.push(h('button', { type: 'button', class: 'replies', 'data-name': 'replies', onclick }, ...names, counted(entry.replies.count, 'reply', 'replies')));
    }
    return parts;
  }

  #reactions(entry) {
    const { model } = this;
    const buttons = [...entry.reactions].map(([reaction, users]) => {
      const mine = users.has(model.me);
      const names = [...users].map((id) => model.nameOf(id)).join(', ');
      return h(
        'button',
        {
          type: 'button',
          class: 'reaction',
          'aria-pressed': String(mine),
          'aria-label': `${reaction}, ${counted(users.size, 'person', 'people')}: ${names}`,
          title: names,
          'data-name': `reaction ${reaction}`,
          'data-reaction': reaction,
          onclick: () => model.react(entry.seq, reaction),
        },
        h('span', {}, reaction),
        h('span', { class: 'count' }, countText(users.size)),
      );
    });
    return h('div', { class: 'reactions' }, ...buttons);
  }

  // --- editing

  #edit(seq) {
    this.editing = seq;
    this.draw();
    const editor = this.element.querySelector('.editor textarea');
    editor?.focus();
    editor?.setSelectionRange(editor.value.length, editor.value.length);
    editor?.scrollIntoView({ block: 'nearest' });
  }

  #editor(entry) {
    const area = h('textarea', { 'aria-label': 'Edit the message', rows: '1', 'data-name': 'editor' });
    area.value = entry.pendingText ?? entry.text;
    const problem = h('p', { class: 'problem', role: 'alert' });
    const end = () => {
      this.editing = null;
      this.draw();
      this.onEscape();
    };
    const save = () => {
      const text = area.value.trim();
      if (text === '' || text === entry.text) {
        end();
        return;
      }
      const wrong = this.model.edit(entry.seq, text);
      if (wrong) problem.textContent = wrong;
      else end();
    };
    area.addEventListener('keydown', (event) => {
      event.stopPropagation();
      if (event.key === 'Escape') end();
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      }
    });
    return h(
      'div',
      { class: 'editor' },
      area,
      problem,
      h(
        'div',
        { class: 'buttons' },
        h('button', { type: 'button', class: 'button small', onclick: end }, 'Cancel'),
        h('button', { type: 'button', class: 'button small primary', onclick: save }, 'Save'),
      ),
    );
  }

  // --- what can be done to a message

  #offerActions(target) {
    const row = target instanceof Element ? target.closest('.message[data-seq]') : null;
    if (!row || !this.element.contains(row)) {
      if (!this.toolbar.contains(document.activeElement)) this.toolbar.remove();
      return;
    }
    if (this.toolbar.parentElement === row) return;
    this.#withdraw();
    const entry = this.source()?.timeline.bySeq.get(Number(row.dataset.seq));
    if (!entry || entry.deleted || this.editing === entry.seq) return;
    this.toolbar.replaceChildren(...this.#actions(entry));
    row.append(this.toolbar);
  }

  /** Takes the actions away; the focus, if it is in them, goes to their message. */
  #withdraw() {
    const { toolbar } = this;
    if (toolbar.contains(document.activeElement)) toolbar.parentElement?.focus({ preventScroll: true });
    toolbar.remove();
  }

  #actions(entry) {
    const { model, inThread } = this;
    const channel = model.here();
    const mine = entry.user === model.me;
    const name = (one) => ({ 'data-name': one });
    const actions = REACTIONS.slice(0, 3).map((reaction) =>
      h('button', { type: 'button', class: 'icon-button', 'aria-label': `React with ${reaction}`, title: `React with ${reaction}`, onclick: () => model.react(entry.seq, reaction) }, reaction),
    );
    actions.push(iconButton('smile', 'More reactions', (event) => this.#picker(entry, event.currentTarget), { ...name('react'), 'aria-haspopup': 'true' }));
    if (!inThread) {
      const root = entry.thread ?? entry.seq;
      actions.push(iconButton('reply', 'Reply in a thread', () => this.onThread(root), name('reply')));
    }
    if (mine) actions.push(iconButton('eye', 'Who has it', () => this.onSeen(entry.seq), name('seen')));
    if (mine || channel?.role === 'admin') {
      actions.push(iconButton('edit', 'Edit', () => this.#edit(entry.seq), name('edit')));
      actions.push(iconButton('trash', 'Delete', () => this.#delete(entry.seq), name('delete')));
    }
    return actions;
  }

  #picker(entry, button) {
    const close = () => {
      // Before it goes: the focus would fall to the page.
      button.focus();
      this.toolbar.querySelector('.picker')?.remove();
    };
    const give = (reaction) => {
      this.model.react(entry.seq, reaction);
      close();
    };
    if (this.toolbar.querySelector('.picker')) {
      close();
      return;
    }
    const field = h('input', { 'aria-label': 'Another reaction', placeholder: 'other', maxlength: '32', size: '6' });
    field.addEventListener('keydown', (event) => {
      event.stopPropagation();
      const text = field.value.trim();
      if (event.key === 'Enter' && text !== '' && !/\s/.test(text)) give(text);
      if (event.key === 'Escape') close();
    });
    const choices = REACTIONS.map((reaction) =>
      h('button', { type: 'button', class: 'icon-button', 'aria-label': `React with ${reaction}`, onclick: () => give(reaction) }, reaction),
    );
    this.toolbar.append(h('div', { class: 'picker', role: 'group', 'aria-label': 'Reactions' }, ...choices, field));
    field.focus();
  }

  /** Asked twice: the button asks back in its own place. */
  #delete(seq) {
    const sure = h('button', { type: 'button', class: 'button small danger', 'data-name': 'sure' }, 'Delete for everybody');
    sure.addEventListener('click', () => {
      this.toolbar.remove();
      this.model.remove(seq);
      this.onEscape();
    });
    const no = h('button', { type: 'button', class: 'button small', onclick: () => this.#withdraw() }, 'Keep');
    this.toolbar.replaceChildren(no, sure);
    sure.focus();
  }

  // --- keys

  #onKey(event) {
    const rows = [...this.element.querySelectorAll('.message, .member-line')];
    const active = document.activeElement;
    const row = active.closest?.('.message, .member-line') ?? null;
    const at = row ? rows.indexOf(row) : rows.length;
    const onRow = row !== null && active === row;
    if (event.key === 'Escape') {
      if (active !== row && row && this.toolbar.contains(active)) row.focus();
      else this.onEscape();
      event.preventDefault();
      return;
    }
    if (this.toolbar.contains(active) && ['ArrowLeft', 'ArrowRight'].includes(event.key)) {
      const buttons = [...this.toolbar.querySelectorAll('button')];
      const next = buttons.indexOf(active) + (event.key === 'ArrowRight' ? 1 : -1);
      buttons.at(next % buttons.length)?.focus();
      event.preventDefault();
      return;
    }
    if (!onRow && active !== this.element) return;
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      rows[Math.max(0, Math.min(to, rows.length - 1))]?.focus();
    } else if (event.key === 'Enter' && onRow) {
      event.preventDefault();
      this.#offerActions(row);
      this.toolbar.querySelector('button')?.focus();
    }
  }

  // --- the place in the log

  #isAtEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  /** The first record on screen and where it stands, so that it can stay there: lines between them
   * go to the top of what is loaded. */
  #place() {
    const top = this.element.getBoundingClientRect().top;
    for (const row of this.element.children) {
      const box = row.getBoundingClientRect();
      if (box.bottom > top && isRecord(row)) return { key: row.dataset.key, at: box.top };
    }
    return null;
  }

  #restore(place) {
    if (!place) return;
    for (const row of this.element.children) {
      if (row.dataset.key !== place.key) continue;
      this.element.scrollTop += row.getBoundingClientRect().top - place.at;
      return;
    }
  }

  #lineOnTop(line) {
    const box = this.element.getBoundingClientRect();
    this.element.scrollTop += line.getBoundingClientRect().top - box.top - box.height / 4;
    this.wasAtEnd = this.#isAtEnd();
  }

  #onScroll() {
    this.wasAtEnd = this.#isAtEnd();
    this.#look();
  }

  #keepEnd() {
    if (this.wasAtEnd) this.scrollToEnd();
    this.#look();
  }

  /** What follows from the place: older messages, the button, what counts as read. */
  #look() {
    const { element, model } = this;
    // A log that waits for its history is at its end, and nothing was seen of it, nor of a channel
    // that is not drawn yet.
    if (this.inThread || !this.landed || this.shown !== this.source()) {
      this.toEnd.hidden = true;
      return;
    }
    const atEnd = this.#isAtEnd();
    this.toEnd.hidden = atEnd;
    if (model.atEnd !== atEnd) model.setAtEnd(atEnd);
    const { timeline, loading, loadError } = this.shown;
    if (element.scrollTop < NEAR_TOP && timeline.loaded && timeline.hasOlder && !loading && !loadError) {
      model.history.loadOlder();
    }
  }
}

/** Whether a row is a record, by its key: days and other lines have no sender. */
const isRecord = (row) => row.dataset.key.includes('/');

/** The small sign behind one's own message. */
function stateSign(state) {
  const [text, label] = SIGNS[state];
  return h('span', { class: `sign ${state}`, role: 'img', 'aria-label': label, title: label }, text);
}
