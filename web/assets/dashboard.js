// The dashboard: /ui/dashboard.

import { Api } from './api.js';
import { Auth } from './auth.js';
import { Board, listenText, podsText } from './board.js';
import { Chart, bar } from './chart.js';
import { signInPage } from './dialogs.js';
import { avatar, counted, countText, h, iconButton, patch, replace, timeText } from './dom.js';
import { EventStream } from './events.js';

/** Channels on a page; the first page comes with the stream. */
const ROWS = 50;
/** The further pages are asked for again this often, in ms. */
const PAGE_MS = 2_000;
const DRAW_MS = 250;

const root = document.getElementById('root');
const auth = new Auth();

const rateText = (rate) => (rate >= 10 ? countText(Math.round(rate)) : countText(Math.round(rate * 10) / 10));

class Dashboard {
  constructor() {
    this.api = new Api(() => auth.token);
    this.board = new Board();
    this.users = new Map();
    this.wanted = new Set();
    /** A page of channels that does not come with the stream: the first, with a filter, or another. */
    this.page = { offset: 0, name: '', rows: null, total: null, error: null };
    this.state = { state: 'connecting' };
    this.stream = new EventStream({
      path: () => {
        const chosen = this.board.chosen;
        return `/api/events?top=${ROWS}${chosen ? `&channel=${encodeURIComponent(chosen)}` : ''}`;
      },
      token: () => auth.token,
      checkToken: () => auth.check(),
      onEvent: (event) => {
        this.board.apply(event);
        if (event.type === 'record') this.#meet([event.data.user, event.data.member]);
        if (event.type === 'live') this.#meet(event.data.listeners.map((one) => one.user));
        if (event.type === 'missed') this.#history();
        this.changed();
      },
      onState: (state) => this.#onState(state),
    });
    this.#build();
  }

  #build() {
    this.pill = h('span', { class: 'pill', role: 'status' });
    this.warning = h('div', { class: 'banner', role: 'status', hidden: true });
    this.tiles = {
      sockets: tile('sockets', 'Sockets'),
      messages_per_s: tile('messages_per_s', 'Messages a second'),
      channels: tile('channels', 'Channels with listeners'),
      pods: tile('pods', 'Pods'),
    };
    this.charts = { sockets: new Chart('Sockets'), messages_per_s: new Chart('Messages a second') };
    this.podRows = h('tbody');
    this.morePods = h('p', { class: 'muted note' });
    this.channelRows = h('tbody');
    this.sums = h('p', { class: 'muted note' });
    this.pageText = h('span', { class: 'muted' });
    this.back = h('button', { type: 'button', class: 'button small', onclick: () => this.#turn(-ROWS) }, 'Previous');
    this.forth = h('button', { type: 'button', class: 'button small', onclick: () => this.#turn(ROWS) }, 'Next');
    this.filter = h('input', { type: 'search', placeholder: 'Name begins with…', 'aria-label': 'Channels whose name begins with' });
    this.filter.addEventListener('input', () => {
      this.page = { offset: 0, name: this.filter.value.trim(), rows: null, total: null, error: null };
      this.#fetchPage();
      this.changed();
    });
    this.refused = h('p', { class: 'problem', role: 'alert' });
    this.chosen = h('section', { class: 'card chosen', 'aria-label': 'The chosen channel', hidden: true });
    const chat = `/ui${location.search}`;
    const panel = (title, ...inside) => h('section', { class: 'card' }, h('h2', {}, title), ...inside);
    this.app = h(
      'div',
      { class: 'dashboard' },
      h('header', { class: 'top' }, h('h1', {}, 'Hubbub'), this.pill, h('a', { href: chat }, 'Chat')),
      this.warning,
      h(
        'main',
        { class: 'grid' },
        h('div', { class: 'tiles' }, ...Object.values(this.tiles).map((one) => one.element)),
        panel('Sockets', this.charts.sockets.element),
        panel('Messages a second', this.charts.messages_per_s.element),
        panel('Pods', table('pods', ['Pod', 'State', 'Sockets', 'Channels', 'Messages/s'], this.podRows), this.morePods),
        h(
          'section',
          { class: 'card' },
          h('div', { class: 'card-head' }, h('h2', {}, 'Channels'), this.filter),
          table('channels', ['Channel', 'Connections', 'Messages/s'], this.channelRows),
          this.refused,
          this.sums,
          h('div', { class: 'pager' }, this.back, this.pageText, this.forth),
        ),
        this.chosen,
      ),
    );
    setInterval(() => {
      this.board.sample(Date.now());
      this.changed();
    }, 1_000);
    setInterval(() => this.#fetchPage(), PAGE_MS);
    window.addEventListener('online', () => this.state.state === 'waiting' && this.stream.open());
    window.addEventListener('pagehide', () => this.stream.close());
    window.addEventListener('pageshow', (event) => event.persisted && location.reload());
  }

  start() {
    replace(root, this.app);
    this.stream.open();
    this.draw();
  }

  changed() {
    this.timer ||= setTimeout(() => this.draw(), DRAW_MS);
  }

  // --- the stream

  #onState(state) {
    this.state = state;
    if (state.state === 'open') {
      if (this.board.chosen) this.#history();
      this.#fetchPage();
    } else if (state.state !== 'connecting') {
      // While it is opened anew for another channel the figures stay good.
      this.board.disconnected();
    }
    if (state.state === 'refused' && state.code === 'channel_not_found' && this.board.chosen) {
      // The rest of the dashboard goes on without it.
      const name = this.chosenName || this.board.chosen;
      this.choose(null);
      this.refused.textContent = `${name} cannot be shown: its messages are for its members, and you are none of them.`;
    }
    this.changed();
  }

  /** Looks at a channel, or at none. */
  choose(row) {
    this.board.choose(row?.channel ?? null);
    this.chosenName = row?.name ?? '';
    this.refused.textContent = '';
    this.stream.open();
    this.changed();
    this.chosen.scrollIntoView?.({ block: 'nearest' });
  }

  /** Closes the chosen channel; the focus goes back to where it was chosen. */
  #close() {
    const row = [...this.channelRows.children].find((one) => one.dataset.channel === this.board.chosen);
    (row?.querySelector('button') ?? this.filter).focus();
    this.choose(null);
  }

  /** What was said before the stream told of it, and what it may have missed. */
  async #history() {
    const channel = this.board.chosen;
    try {
      const { messages } = await this.api.messages(channel);
      if (this.board.chosen !== channel) return;
      this.board.missed = false;
      for (const record of messages) this.board.apply({ type: 'record', data: { ...record, channel } });
      this.board.records.sort((a, b) => a.seq - b.seq);
      this.#meet(messages.flatMap((one) => [one.user, one.member]));
      this.changed();
    } catch {
      // What passes from now on is shown all the same.
    }
  }

  // --- pages of channels

  #turn(by) {
    this.page = { ...this.page, offset: Math.max(0, this.page.offset + by), rows: null };
    this.#fetchPage();
    this.changed();
  }

  async #fetchPage() {
    const { page } = this;
    if ((page.offset === 0 && page.name === '') || this.state.state !== 'open') return;
    try {
      const answer = await this.api.connections(page.offset, ROWS, page.name);
      if (this.page !== page) return;
      Object.assign(page, { rows: answer.items, total: answer.total, error: null });
    } catch (error) {
      page.error = error.message;
    }
    this.changed();
  }

  // --- users

  #meet(ids) {
    const unknown = ids.filter((id) => id && !this.users.has(id) && !this.wanted.has(id));
    if (unknown.length === 0) return;
    if (this.wanted.size === 0) setTimeout(() => this.#fetchUsers(), 50);
    for (const id of unknown) this.wanted.add(id);
  }

  async #fetchUsers() {
    const ids = [...this.wanted];
    this.wanted.clear();
    try {
      for (const user of await this.api.users(ids)) this.users.set(user.id, user);
      this.changed();
    } catch {
      // Their ids are shown.
    }
  }

  #user(id) {
    return this.users.get(id) ?? { id, name: id };
  }

  // --- drawing

  draw() {
    clearTimeout(this.timer);
    this.timer = 0;
    const { board } = this;
    const now = Date.now();
    this.#drawState();
    for (const [name, one] of Object.entries(this.tiles)) {
      const text = name === 'messages_per_s' ? rateText : countText;
      one.set(board.everKnown ? text(board.totals[name]) : '–');
    }
    for (const [name, chart] of Object.entries(this.charts)) {
      chart.draw(board.line(name, now), board.totals[name]);
    }
    this.#drawPods();
    this.#drawChannels();
    this.#drawChosen();
  }

  #drawState() {
    const { board } = this;
    const { state, until, reason, message } = this.state;
    const live = board.known;
    this.app.classList.toggle('stale', !live);
    const words = { open: 'reading…', connecting: 'connecting…' };
    const pill = live ? 'live' : (words[state] ?? 'not connected');
    if (this.pill.textContent !== pill) this.pill.textContent = pill;
    this.pill.dataset.state = live ? 'live' : state;
    let text = '';
    if (state === 'waiting') text = `Not connected: ${reason}. The figures are old. Trying again in ${Math.max(0, Math.ceil((until - Date.now()) / 1_000))} s.`;
    else if (state === 'refused') text = `Not connected: ${message}.`;
    else if (live && !board.complete) text = `Not complete: no answer from ${board.missing.join(', ') || 'some pods'}.`;
    if (this.warning.textContent !== text) this.warning.textContent = text;
    this.warning.hidden = text === '';
  }

  #drawPods() {
    const { board } = this;
    const rows = board.podRows();
    const most = rows.reduce((top, row) => Math.max(top, row.sockets), 0);
    patch(
      this.podRows,
      rows.map((row) => {
        const silent = row.state === 'silent';
        const sign = JSON.stringify([row, most]);
        const make = () =>
          h(
            'tr',
            { 'data-pod': row.pod },
            h('th', { scope: 'row' }, row.pod, h('span', { class: 'muted' }, ` ${row.region ?? ''}`)),
            h('td', {}, h('span', { class: silent ? 'tag bad' : 'tag quiet' }, silent ? 'silent' : 'reporting')),
            h('td', { class: 'number' }, bar(row.sockets, most), countText(row.sockets)),
            h('td', { class: 'number' }, countText(row.channels)),
            h('td', { class: 'number' }, rateText(row.messages_per_s)),
          );
        return { key: row.pod, sign, make };
      }),
    );
    this.morePods.textContent = board.morePods > 0 ? `and ${counted(board.morePods, 'pod')} more` : '';
  }

  #drawChannels() {
    const { board, page } = this;
    const first = page.offset === 0 && page.name === '';
    const rows = first ? board.channelRows() : (page.rows ?? []);
    const known = board.everKnown ? rows.length + board.more : null;
    const total = first ? known : page.total;
    const most = rows.reduce((top, row) => Math.max(top, row.connections), 0);
    patch(
      this.channelRows,
      rows.map((row) => {
        const chosen = row.channel === board.chosen;
        const sign = JSON.stringify([row, most, chosen]);
        const onclick = () => this.choose(chosen ? null : row);
        const make = () =>
          h(
            'tr',
            { 'data-channel': row.channel, class: chosen ? 'chosen-row' : null },
            h('th', { scope: 'row' }, h('button', { type: 'button', class: 'text-button', 'data-name': 'choose', 'aria-pressed': String(chosen), onclick }, row.name ?? row.channel), row.kind === 'private' ? h('span', { class: 'muted' }, ' private') : null),
            h('td', { class: 'number' }, bar(row.connections, most), countText(row.connections)),
            h('td', { class: 'number' }, rateText(row.messages_per_s)),
          );
        return { key: row.channel, sign, make };
      }),
    );
    this.sums.textContent = board
      .sumRows()
      .map((row) => `${row.channel === 'direct' ? 'Direct messages' : 'Private channels of others'}: ${counted(row.channels ?? 0, 'channel')}, ${counted(row.connections, 'connection')}, ${rateText(row.messages_per_s)} messages/s.`)
      .join(' ');
    let text = total === null ? 'Reading…' : 'None';
    if (total > 0) text = `${countText(page.offset + 1)}–${countText(page.offset + rows.length)} of ${countText(total)}`;
    if (page.error && !first) text = `Not to be had now: ${page.error}.`;
    this.pageText.textContent = text;
    this.back.disabled = page.offset === 0;
    this.forth.disabled = total === null || page.offset + rows.length >= total;
  }

  #drawChosen() {
    const { board, chosen } = this;
    chosen.hidden = board.chosen === null;
    if (chosen.hidden) {
      this.chosenParts = null;
      return;
    }
    if (this.chosenParts?.channel !== board.chosen) this.#buildChosen();
    const { people, note, records, problem } = this.chosenParts;
    const { live } = board;
    const byUser = new Map();
    for (const one of live?.listeners ?? []) {
      byUser.set(one.user, [...(byUser.get(one.user) ?? []), one.pod]);
    }
    note.textContent = live ? listenText(live) : 'Asking who is here…';
    let wrong = '';
    if (board.left) wrong = 'You are no member of this channel any more.';
    else if (board.missed) wrong = 'Some of what passed is missing here.';
    if (problem.textContent !== wrong) problem.textContent = wrong;
    patch(
      people,
      [...byUser].map(([id, pods]) => {
        const user = this.#user(id);
        const make = () => h('li', { 'data-user': id }, avatar(user, 'small'), h('span', { class: 'name' }, user.name), h('span', { class: 'muted' }, podsText(pods)));
        return { key: id, sign: JSON.stringify([user, pods]), make };
      }),
    );
    const atEnd = records.scrollHeight - records.scrollTop - records.clientHeight < 40;
    patch(
      records,
      board.records.map((record) => {
        const user = this.#user(record.user);
        const make = () => h('li', { 'data-seq': record.seq }, h('time', { class: 'muted' }, timeText(record.ts_ms)), ' ', h('span', { class: 'name' }, user.name), ' ', h('span', { class: record.type === 'message' ? '' : 'muted' }, this.#words(record)));
        return { key: String(record.seq), sign: `${user.name}/${record.type}`, make };
      }),
    );
    if (atEnd) records.scrollTop = records.scrollHeight;
  }

  #buildChosen() {
    const { board, chosen } = this;
    const parts = {
      channel: board.chosen,
      people: h('ul', { class: 'people' }),
      note: h('p', { class: 'muted' }),
      problem: h('p', { class: 'problem', role: 'alert' }),
      records: h('ul', { class: 'records', tabindex: '0', 'aria-label': 'Messages as they pass' }),
    };
    this.chosenParts = parts;
    replace(
      chosen,
      h('div', { class: 'card-head' }, h('h2', {}, this.chosenName || board.chosen), iconButton('close', 'Close the channel', () => this.#close())),
      parts.problem,
      h('div', { class: 'chosen-grid' }, h('div', {}, parts.note, parts.people), parts.records),
    );
  }

  #words(record) {
    const about = `message ${record.target}`;
    switch (record.type) {
      case 'message':
        return record.deleted ? 'said something that was deleted' : record.text;
      case 'message_changed':
        return `changed ${about}: ${record.text}`;
      case 'message_deleted':
        return `deleted ${about}`;
      case 'reaction_added':
        return `gave ${about} ${record.reaction}`;
      case 'reaction_removed':
        return `took ${record.reaction} from ${about}`;
      case 'member_joined':
        return `added ${this.#user(record.member).name}`;
      case 'member_left':
        return `removed ${this.#user(record.member).name}`;
      case 'identity_change':
        return 'changed name, picture or status';
      default:
        return record.type;
    }
  }
}

function tile(name, label) {
  const value = h('span', { class: 'value' }, '–');
  const element = h('div', { class: 'tile', 'data-tile': name }, value, h('span', { class: 'muted' }, label));
  return { element, set: (text) => value.textContent !== text && (value.textContent = text) };
}

function table(label, heads, body) {
  const cells = heads.map((text, at) => h('th', { scope: 'col', class: at > 0 && text !== 'State' ? 'number' : null }, text));
  // It may be wider than the screen: the keyboard scrolls it, too.
  const scrolled = { class: 'table', role: 'region', tabindex: '0', 'aria-label': `Table of ${label}` };
  return h('div', scrolled, h('table', {}, h('thead', {}, h('tr', {}, ...cells)), body));
}

async function begin() {
  let known = false;
  try {
    known = await auth.begin(new URL(location.href));
    if (known && (await auth.check()) === 'bad') {
      auth.signOut();
      known = false;
    }
  } catch (error) {
    replace(root, h('main', { class: 'sign-in' }, h('h1', {}, 'Hubbub'), h('p', { role: 'alert' }, `The page cannot start: ${error.message}.`)));
    return;
  }
  if (known) {
    new Dashboard().start();
    return;
  }
  const done = (idUser) => {
    const address = new URL(location.href);
    if (idUser !== null) address.searchParams.set('id_user', idUser);
    history.replaceState(null, '', address);
    new Dashboard().start();
  };
  replace(root, signInPage(auth, done));
}

begin();
