// As much of a document as making and patching elements needs, so that both run without a browser.

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
  Object.assign(globalThis, { document, Node });
}
