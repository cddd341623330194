// Making elements. Text only ever goes in as text: nothing here, or anywhere on the page, reads HTML.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An element. `on…` functions become listeners, `true` an empty attribute; null, undefined and false
 * are left out. Children that are strings or numbers become text.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node|string|number|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  apply(element, attributes);
  fill(element, children);
  return element;
}

/** The same for SVG. @returns {SVGElement} */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  apply(element, attributes);
  fill(element, children);
  return element;
}

function apply(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
}

function fill(element, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Puts exactly these children into an element. */
export function replace(element, ...children) {
  element.replaceChildren();
  fill(element, children);
}

const ICONS = {
  menu: 'M3 5h14M3 10h14M3 15h14',
  plus: 'M10 4v12M4 10h12',
  close: 'M5 5l10 10M15 5L5 15',
  reply: 'M4 4h12v9H9l-4 3v-3H4z',
  edit: 'M4 16l1-4 8-8 3 3-8 8z',
  trash: 'M5 6h10l-1 11H6zM4 6h12M8 6V4h4v2',
  smile: 'M10 3a7 7 0 100 14 7 7 0 000-14zM7 12c1 2 5 2 6 0M7.5 8v.5M12.5 8v.5',
  people: 'M7 10a3 3 0 100-6 3 3 0 000 6zM2 17c0-6 10-6 10 0M13 4.5a3 3 0 010 5M14.5 12c2 .6 3.5 2 3.5 5',
  eye: 'M2 10c4-7 12-7 16 0-4 7-12 7-16 0zM10 8a2 2 0 100 4 2 2 0 000-4z',
  send: 'M3 10l14-7-5 14-3-6z',
  down: 'M10 4v11M5 11l5 5 5-5',
  chart: 'M3 17V9h3v8M8.5 17V3h3v14M14 17v-6h3v6',
  hash: 'M8 3L6 17M14 3l-2 14M4 7h13M3 13h13',
  lock: 'M5 9h10v8H5zM7 9V6a3 3 0 016 0v3',
};

/** A picture that says nothing of its own. */
export function icon(name) {
  const path = svg('path', { d: ICONS[name] });
  return svg('svg', { class: 'icon', viewBox: '0 0 20 20', 'aria-hidden': 'true' }, path);
}

/** A button with a picture and a name for those who do not see it. */
export function iconButton(name, label, onclick, attributes = {}) {
  const all = { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick };
  return h('button', { ...all, ...attributes }, icon(name));
}

/** Which of eight colours somebody has. */
export function toneOf(id) {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return sum % 8;
}

/** Pictures of our own server and those that are written out are shown, others would be asked for
 * from strangers' servers: there the letters stand. A browser takes a backslash for a slash, and
 * leaves out tabs and ends of lines, so that these could make an address a stranger's. */
const isOwnPicture = (address) =>
  /^data:image\/(png|jpeg|gif|webp);base64,/.test(address) || /^\/(?![/\\])[^\t\n\r]*$/.test(address);

/** A user's picture, or their letters on a colour. */
export function avatar(user, size = '') {
  const letters = [...(user.name || '?')][0].toUpperCase();
  const picture = user.picture && isOwnPicture(user.picture) ? user.picture : null;
  const inside = picture ? h('img', { src: picture, alt: '' }) : letters;
  const kind = `avatar ${size} tone-${toneOf(user.id)}`;
  return h('span', { class: kind, 'aria-hidden': 'true' }, inside);
}

const LINK = /https?:\/\/[^\s<>"'`]+/g;

/** Without what ends the sentence; a closing bracket belongs to it if it was opened in it. */
function trimmed(address) {
  const count = (bracket) => address.split(bracket).length - 1;
  // Counted once: a message may end in thousands of them.
  let unopened = count(')') - count('(');
  let end = address.length;
  for (; ; end -= 1) {
    const last = address[end - 1];
    if (last === ')' && unopened > 0) unopened -= 1;
    else if (!'.,:;!?]}'.includes(last)) return address.slice(0, end);
  }
}

/** Text with its web addresses as links. @returns {(Node|string)[]} */
export function linked(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    parts.push(text.slice(end, match.index));
    const address = trimmed(match[0]);
    parts.push(h('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address));
    end = match.index + address.length;
  }
  parts.push(text.slice(end));
  return parts.filter((part) => part !== '');
}

/**
 * Makes the children of `parent` those of `rows`, in their order, keeping what has not changed: its
 * focus, selection and place stay.
 * @param {HTMLElement} parent
 * @param {{key: string, sign: string, make: () => HTMLElement}[]} rows
 */
export function patch(parent, rows) {
  const old = keep(parent, new Set(rows.map((row) => row.key)));
  let before = null;
  for (const { key, sign, make } of rows) {
    let element = old.get(key);
    old.delete(key);
    if (element?.dataset.sign !== sign) {
      const fresh = make();
      fresh.dataset.key = key;
      fresh.dataset.sign = sign;
      if (element) swap(element, fresh);
      element = fresh;
    }
    const place = before ? before.nextSibling : parent.firstChild;
    if (element !== place) parent.insertBefore(element, place);
    before = element;
  }
}

/** Removes all children but the first of each of these keys; gives those that stay, by key. */
function keep(parent, keys) {
  const kept = new Map();
  for (const child of [...parent.children]) {
    const { key } = child.dataset;
    if (keys.has(key) && !kept.has(key)) kept.set(key, child);
    else child.remove();
  }
  return kept;
}

/** Replaces an element; the focus stays on what took its place. */
function swap(element, fresh) {
  const active = document.activeElement;
  const inside = element.contains(active);
  const name = inside ? active.dataset.name : null;
  element.replaceWith(fresh);
  if (!inside) return;
  const again = name ? fresh.querySelector(`[data-name="${CSS.escape(name)}"]`) : null;
  (again ?? fresh).focus({ preventScroll: true });
}

const timeFormat = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit' });
const dayFormat = new Intl.DateTimeFormat([], { weekday: 'long', day: 'numeric', month: 'long' });
const yearFormat = new Intl.DateTimeFormat([], { day: 'numeric', month: 'long', year: 'numeric' });
const fullFormat = new Intl.DateTimeFormat([], { dateStyle: 'long', timeStyle: 'medium' });

export const timeText = (ms) => timeFormat.format(ms);
export const fullText = (ms) => fullFormat.format(ms);

/** A day for people: today, yesterday, a weekday's name within the year. */
export function dayText(ms, now = Date.now()) {
  const start = (at) => new Date(at).setHours(0, 0, 0, 0);
  const days = Math.round((start(now) - start(ms)) / 86_400_000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  const sameYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return (sameYear ? dayFormat : yearFormat).format(ms);
}

/** A whole number for people. */
export const countText = (n) => new Intl.NumberFormat().format(n);
/** "1 message", "2 messages". */
export const counted = (n, one, many = `${one}s`) => `${countText(n)} ${n === 1 ? one : many}`;

/** The room that a path of the page names, `''` without one; a malformed one is taken as it stands. */
export function roomOf(path) {
  const segment = path.split('/')[2] ?? '';
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
