// As much of a document as making and patching elements needs, so that both run without a browser.
// Every child is a row of 100 pixels, and every element shows three of them.

const ROW = 100;

class Node {
  constructor() {
    this.parentElement = null;
  }

  remove() {
    const { parentElement: parent } = this;
    if (!parent) return;
    if (this.contains(document.activeElement)) document.activeElement = document.body;
    parent.childNodes.splice(parent.childNodes.indexOf(this), 1);
    this.parentElement = null;
  }

  get nextSibling() {
    const { childNodes } = this.parentElement;
    return childNodes[childNodes.indexOf(this) + 1] ?? null;
  }

  contains(other) {
    for (let one = other; one; one = one.parentElement) if (one === this) return true;
    return false;
  }
}

class Text extends Node {
  constructor(text) {
    super();
    this.textContent = text;
  }
}

class Element extends Node {
  constructor(tag) {
    super();
    this.tag = tag;
    this.attributes = new Map();
    this.listeners = new Map();
    this.dataset = {};
    this.childNodes = [];
    this.clientHeight = 3 * ROW;
    this.scrolled = 0;
  }

  get scrollHeight() {
    return Math.max(this.children.length * ROW, this.clientHeight);
  }

  get scrollTop() {
    return this.scrolled;
  }

  set scrollTop(to) {
    this.scrolled = Math.max(0, Math.min(to, this.scrollHeight - this.clientHeight));
  }

  getBoundingClientRect() {
    const parent = this.parentElement;
    const top = parent ? parent.children.indexOf(this) * ROW - parent.scrolled : 0;
    return { top, bottom: top + ROW, height: this.clientHeight };
  }

  /** The first child of a class, or of a `data-name`. */
  querySelector(selector) {
    const isMeant = (one) =>
      one.getAttribute('class')?.split(' ').includes(selector.slice(1)) ||
      selector === `[data-name="${one.getAttribute('data-name')}"]`;
    for (const child of this.children) {
      if (isMeant(child)) return child;
      const inside = child.querySelector(selector);
      if (inside) return inside;
    }
    return null;
  }

  replaceChildren(...nodes) {
    for (const child of [...this.childNodes]) child.remove();
    this.append(...nodes);
  }

  get children() {
    return this.childNodes.filter((one) => one instanceof Element);
  }

  get firstChild() {
    return this.childNodes[0] ?? null;
  }

  get textContent() {
    return this.childNodes.map((one) => one.textContent).join('');
  }

  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  setAttribute(name, value) {
    this.attributes.set(name, value);
    if (name.startsWith('data-')) this.dataset[name.slice(5)] = value;
  }

  /** The nearest element, this one or one around it, of a class and with an attribute: `.a[b]`. */
  closest(selector) {
    const [, kind, name] = /^\.(\w+)\[(.+)\]$/.exec(selector);
    for (let one = this; one; one = one.parentElement) {
      if (one.getAttribute('class')?.split(' ').includes(kind) && one.getAttribute(name) !== null) return one;
    }
    return null;
  }

  addEventListener(type, listener) {
    this.listeners.set(type, listener);
  }

  append(...nodes) {
    for (const node of nodes) this.insertBefore(node, null);
  }

  insertBefore(node, place) {
    node.remove();
    const at = place ? this.childNodes.indexOf(place) : this.childNodes.length;
    this.childNodes.splice(at, 0, node);
    node.parentElement = this;
  }

  replaceWith(node) {
    this.parentElement.insertBefore(node, this);
    this.remove();
  }

  focus() {
    document.activeElement = this;
  }
}

/** Gives this process a document. */
export function withElements() {
  const body = new Element('body');
  const document = {
    body,
    activeElement: body,
    createElement: (tag) => new Element(tag),
    createElementNS: (space, tag) => new Element(tag),
    createTextNode: (text) => new Text(text),
  };
  class ResizeObserver {
    observe() {}
  }
  Object.assign(globalThis, { document, Node, Element, ResizeObserver });
}
