// The chat page: /ui, /ui/<channel>.

import { Auth } from './auth.js';
import { ChatModel } from './chat-model.js';
import { channelDialog, personDialog, profileDialog, seenDialog, signInPage } from './dialogs.js';
import { h, icon, iconButton, replace, roomOf } from './dom.js';
import { pathOf } from './place.js';
import { Composer } from './view-composer.js';
import { LogView } from './view-log.js';
import { membersText, PeopleView, Side, ThreadView } from './view-side.js';
import { presenceDot, Sidebar } from './view-sidebar.js';

const root = document.getElementById('root');
const auth = new Auth();

/** Why a connection was ended for good, in words. */
const ENDED = {
  4401: 'Your sign-in has expired.',
  4501: 'Your sign-in was revoked.',
  4502: 'You have more pages open than the server allows: another one took this one’s place.',
};

class Page {
  constructor() {
    this.dirty = new Set();
    this.timer = 0;
    const model = new ChatModel(auth, (topic) => this.changed(topic));
    this.model = model;
    model.onNotice = (text) => this.notice(text);
    model.onNews = (channel, record, looked) => this.#announce(channel, record, looked);
    this.#build();
  }

  // --- drawing

  /** Draws what changed, soon and once. */
  changed(topic) {
    this.dirty.add(topic);
    this.timer ||= setTimeout(() => this.draw(), 0);
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = 0;
    const { dirty } = this;
    this.dirty = new Set();
    const any = (...topics) => topics.some((topic) => dirty.has(topic));
    if (any('channels', 'users', 'presence')) this.sidebar.draw();
    if (any('head', 'channels', 'users', 'presence', 'people')) this.#drawHead();
    // It shows or hides the log, which has no place to keep while it is hidden.
    if (any('composer')) this.#drawComposer();
    if (any('log', 'users')) this.log.draw();
    if (any('thread')) this.#drawSide();
    if (any('thread', 'users') && this.model.thread) this.thread.draw();
    if (any('people', 'presence', 'users') && this.side.view === this.people) this.people.draw();
    if (any('typing', 'users')) this.#drawTyping();
    if (any('banner')) this.#drawBanner();
  }

  #build() {
    const { model } = this;
    const onSeen = (seq) => seenDialog(model, model.current, seq);
    this.sidebar = new Sidebar(model, {
      hrefOf: (channel) => this.#addressOf(channel),
      onOpen: (channel) => this.go(channel),
      onNewChannel: () => channelDialog(model, (channel) => this.go(channel)),
      onNewDirect: () => personDialog(model, 'New direct message', [...model.people(), model.user(model.me)], (id) => this.#direct(id)),
      onProfile: () => this.#profile(),
      onClose: () => this.#drawer(false),
      dashboard: `/ui/dashboard${location.search}`,
    });
    this.log = new LogView(model, {
      label: 'Messages',
      source: () => (model.here()?.is_member ? model.here() : null),
      inThread: false,
      onThread: (seq) => this.#openThread(seq),
      onSeen,
      onEscape: () => this.composer.focus(),
    });
    this.composer = new Composer({
      label: 'Message',
      onSend: (text) => {
        const wrong = model.say(text);
        if (!wrong) this.log.wasAtEnd = true;
        return wrong;
      },
      onTyping: () => model.typing(),
      onUp: () => this.log.editLast(),
      onEscape: () => model.markRead(),
    });
    this.thread = new ThreadView(model, { onSeen, onClose: () => this.#closeSide() });
    this.people = new PeopleView(model, {
      onDirect: (id) => this.#direct(id).catch((error) => this.notice(`${error.message}.`)),
      onAdd: () => this.#add(),
      onLeave: () => model.leave(model.here()).catch((error) => this.notice(`${error.message}.`)),
      onClose: () => this.#closeSide(),
    });
    this.side = new Side();
    this.menu = iconButton('menu', 'Channels', () => this.#drawer(true), {
      class: 'icon-button narrow-only',
      'aria-controls': 'sidebar',
      'aria-expanded': 'false',
    });
    this.title = h('h1');
    this.about = h('p', { class: 'about' });
    this.peopleButton = iconButton('people', 'People', () => this.#togglePeople(), { 'aria-pressed': 'false' });
    this.typing = h('p', { class: 'typing', 'aria-live': 'polite' });
    this.outside = h('div', { class: 'outside', hidden: true });
    this.banner = h('div', { class: 'banner', role: 'status', hidden: true });
    this.notices = h('div', { class: 'notices', role: 'alert' });
    this.news = h('div', { class: 'unseen', 'aria-live': 'polite' });
    this.app = h(
      'div',
      { class: 'app' },
      this.banner,
      this.sidebar.element,
      h('div', { class: 'shade', onclick: () => this.#drawer(false) }),
      h(
        'main',
        { class: 'channel' },
        h('header', { class: 'channel-head' }, this.menu, h('div', { class: 'titles' }, this.title, this.about), this.peopleButton),
        this.outside,
        this.log.outer,
        this.typing,
        this.composer.element,
      ),
      this.side.element,
      this.notices,
      this.news,
    );
    document.addEventListener('visibilitychange', () => model.setVisible(document.visibilityState === 'visible'));
    window.addEventListener('online', () => model.connection?.tryNow());
    window.addEventListener('popstate', () => this.#follow());
    window.addEventListener('pagehide', () => model.stop());
    // Back from the browser's cache: what was open is closed.
    window.addEventListener('pageshow', (event) => event.persisted && location.reload());
    document.addEventListener('keydown', (event) => this.#onKey(event));
    this.clock = setInterval(() => this.#drawBanner(), 1_000);
  }

  async start() {
    await this.model.start();
    replace(root, this.app);
    for (const topic of ['channels', 'head', 'banner']) this.changed(topic);
    await this.#follow();
  }

  stop() {
    clearInterval(this.clock);
    this.model.stop();
  }

  // --- the address

  #addressOf(channel) {
    const query = auth.idUser === null ? '' : `?id_user=${auth.idUser}`;
    return pathOf(channel) + query;
  }

  /** Shows what the address says. */
  async #follow() {
    const { model } = this;
    const path = location.pathname;
    const segment = roomOf(path);
    const sections = model.sections();
    const first = sections.channels[0] ?? sections.direct[0] ?? sections.others[0] ?? null;
    const channel = segment === '' ? first : await model.seek(segment);
    // Gone elsewhere while it was looked for.
    if (location.pathname !== path) return;
    if (channel) {
      if (segment === '') history.replaceState(null, '', this.#addressOf(channel));
      await this.#show(channel);
    } else {
      this.#nothing(segment);
    }
  }

  /** Goes to a channel, as a link would. */
  async go(channel) {
    if (channel.id !== this.model.current) history.pushState(null, '', this.#addressOf(channel));
    this.#drawer(false);
    await this.#show(channel);
  }

  async #show(channel) {
    const before = this.model.here();
    if (before && before !== channel) before.draft = this.composer.draft;
    this.missing = null;
    const opening = this.model.open(channel.id);
    if (before !== channel) this.composer.draft = channel.draft;
    this.#drawSide();
    if (matchMedia('(hover: hover)').matches) this.composer.focus();
    await opening;
  }

  /** There is no such channel, or none that one may see. */
  #nothing(name) {
    this.missing = name;
    this.model.current = null;
    for (const topic of ['log', 'head', 'composer', 'channels']) this.changed(topic);
  }

  // --- parts

  #drawHead() {
    const { model } = this;
    const channel = model.here();
    this.peopleButton.hidden = !channel?.is_member;
    if (!channel) {
      this.title.textContent = this.missing ?? 'Hubbub';
      this.about.textContent = '';
      return;
    }
    const title = model.title(channel);
    const direct = channel.kind === 'direct';
    const mark = direct ? presenceDot(model.presenceOf(channel.with)) : icon(channel.kind === 'private' ? 'lock' : 'hash');
    const here = channel.here?.users.size ?? 0;
    const parts = [];
    if (direct) parts.push(model.user(channel.with).status);
    else if (channel.members) parts.push(membersText(channel));
    if (here > 0) parts.push(`${here} here now`);
    replace(this.title, mark, h('span', {}, title));
    this.about.textContent = parts.filter(Boolean).join(' · ');
    this.log.setLabel(`Messages in ${title}`);
    this.composer.setLabel(`Message ${direct ? title : `#${title}`}`);
    let unread = 0;
    for (const one of model.channels.values()) if (one.is_member) unread += one.unread;
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${title} · Hubbub`;
  }

  #drawComposer() {
    const { model } = this;
    const channel = model.here();
    const member = channel?.is_member ?? false;
    this.composer.element.hidden = !member;
    this.log.outer.hidden = !member;
    this.typing.hidden = !member;
    this.outside.hidden = member;
    if (member) return;
    if (!channel) {
      const name = this.missing;
      const make = () => channelDialog(model, (made) => this.go(made));
      replace(
        this.outside,
        h('p', {}, name ? `There is no channel “${name}” that you may see.` : 'There is no channel yet.'),
        h('button', { type: 'button', class: 'button primary', onclick: make }, 'Make a channel'),
      );
      return;
    }
    const enter = async () => {
      try {
        await model.enter(channel);
        await this.#show(channel);
      } catch (error) {
        this.notice(`${error.message}.`);
      }
    };
    replace(
      this.outside,
      h('p', {}, `You are not a member of ${model.title(channel)}.`),
      h('button', { type: 'button', class: 'button primary', onclick: enter }, 'Join the channel'),
    );
  }

  #drawTyping() {
    const { model } = this;
    const channel = model.here();
    const names = channel ? model.typists(channel).map((id) => model.nameOf(id)) : [];
    let text = '';
    if (names.length === 1) text = `${names[0]} is typing…`;
    else if (names.length === 2) text = `${names[0]} and ${names[1]} are typing…`;
    else if (names.length > 2) text = 'Several people are typing…';
    if (this.typing.textContent !== text) this.typing.textContent = text;
  }

  #drawSide() {
    const { model, side } = this;
    if (model.thread) side.show(this.thread);
    else if (side.view === this.thread) side.show(this.wantsPeople ? this.people : null);
    if (side.view === this.people) this.people.draw();
    const open = side.view === this.people;
    this.peopleButton.setAttribute('aria-pressed', String(open));
  }

  #openThread(seq) {
    this.model.openThread(seq);
    this.#drawSide();
    this.thread.composer.focus();
  }

  #togglePeople() {
    this.wantsPeople = this.side.view !== this.people;
    this.model.closeThread();
    this.side.show(this.wantsPeople ? this.people : null);
    this.#drawSide();
  }

  #closeSide() {
    if (this.side.view === this.people) this.wantsPeople = false;
    this.model.closeThread();
    this.side.show(this.wantsPeople ? this.people : null);
    this.#drawSide();
    this.composer.focus();
  }

  #drawer(open) {
    this.app.classList.toggle('drawer', open);
    this.menu.setAttribute('aria-expanded', String(open));
    if (open) this.sidebar.element.querySelector('a[aria-current], a, button')?.focus();
  }

  /** Says what becomes of the connection; silent while it is well. */
  #drawBanner() {
    const { model, banner } = this;
    const { state, until, code, restart, pod } = model.state;
    this.app.dataset.connection = state;
    if (state === 'open') {
      this.app.dataset.pod = pod;
      this.wasOpen = true;
    }
    if (state === 'open' || (state === 'connecting' && !this.wasOpen)) {
      banner.hidden = true;
      banner.dataset.state = state;
      return;
    }
    const key = `${state}/${code}/${restart}`;
    if (banner.dataset.key !== key) {
      banner.dataset.key = key;
      replace(banner, ...this.#bannerParts(state, code, restart));
    }
    const left = banner.querySelector('.countdown');
    if (left) left.textContent = `${Math.max(0, Math.ceil((until - performance.now()) / 1_000))} s`;
    banner.dataset.state = state;
    banner.hidden = false;
  }

  #bannerParts(state, code, restart) {
    const { model } = this;
    if (state === 'stopped') {
      const again = code === 4502 ? 'Use this one' : 'Sign in again';
      const act = () => {
        if (code !== 4502) auth.signOut();
        location.reload();
      };
      return [
        h('span', {}, ENDED[code] ?? `The server ended the connection (code ${code}).`),
        h('button', { type: 'button', class: 'button small', onclick: act }, again),
      ];
    }
    if (state === 'connecting') return [h('span', {}, 'The connection is lost. Connecting…')];
    return [
      h('span', {}, restart ? 'The server restarts. Reconnecting in ' : 'The connection is lost. Reconnecting in '),
      // Counted down for the eye alone: it would be read out each second.
      h('span', { class: 'countdown', 'aria-hidden': 'true' }),
      h('button', { type: 'button', class: 'button small', onclick: () => model.connection.tryNow() }, 'Now'),
    ];
  }

  notice(text) {
    const note = h('div', { class: 'notice' }, h('span', {}, text), iconButton('close', 'Dismiss', () => note.remove()));
    this.notices.append(note);
    setTimeout(() => note.remove(), 10_000);
  }

  /** Reads out what is new, for those who listen to the page. */
  #announce(channel, record, looked) {
    const { model } = this;
    if (channel.id !== model.current && channel.kind !== 'direct') return;
    const where = looked ? '' : ` in ${model.title(channel)}`;
    this.news.textContent = `${model.nameOf(record.user)}${where}: ${record.text}`;
  }

  // --- what people do

  async #direct(id) {
    await this.go(await this.model.direct(id));
  }

  #add() {
    const { model } = this;
    const channel = model.here();
    const there = new Set(channel.members?.map((one) => one.user));
    const others = model.people().filter((user) => !there.has(user.id));
    personDialog(model, `Add to ${model.title(channel)}`, others, (id) => model.api.addMember(channel.id, id));
  }

  #profile() {
    const onSignOut = () => {
      this.stop();
      auth.signOut();
      location.assign(location.pathname);
    };
    profileDialog(this.model, { onSignOut, canSwitch: auth.people !== null });
  }

  #onKey(event) {
    if (event.key === 'Escape' && this.app.classList.contains('drawer')) {
      this.#drawer(false);
      this.menu.focus();
      return;
    }
    if (!event.altKey || !['ArrowUp', 'ArrowDown'].includes(event.key)) return;
    event.preventDefault();
    const { channels, direct } = this.model.sections();
    const all = [...channels, ...direct];
    const at = all.findIndex((one) => one.id === this.model.current);
    const next = all[(at + (event.key === 'ArrowDown' ? 1 : -1) + all.length) % all.length];
    if (next) this.go(next);
  }
}

/** Asks who it is, or starts. */
async function begin(message) {
  let known = false;
  try {
    known = message === undefined && (await auth.begin(new URL(location.href)));
  } catch (error) {
    failed(error);
    return;
  }
  if (!known) {
    const done = (idUser) => {
      const address = new URL(location.href);
      if (idUser !== null) address.searchParams.set('id_user', idUser);
      history.replaceState(null, '', address);
      run();
    };
    replace(root, signInPage(auth, done, message));
    return;
  }
  await run();
}

async function run() {
  const page = new Page();
  try {
    await page.start();
  } catch (error) {
    page.stop();
    if (error.status === 401) {
      auth.signOut();
      await begin('Your sign-in is not taken any more.');
    } else {
      failed(error);
    }
  }
}

function failed(error) {
  const again = () => location.reload();
  replace(
    root,
    h('main', { class: 'sign-in' }, h('h1', {}, 'Hubbub'), h('p', { role: 'alert' }, `The page cannot start: ${error.message}.`), h('button', { type: 'button', class: 'button primary', onclick: again }, 'Try again')),
  );
}

begin();
