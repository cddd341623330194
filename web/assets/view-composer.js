// Where one writes.

import { h, iconButton } from './dom.js';

export class Composer {
  /**
   * @param {object} parts
   * @param {string} parts.label
   * @param {(text: string) => string|null} parts.onSend gives what is wrong with the text, or null
   * @param {() => void} parts.onTyping
   * @param {() => boolean} parts.onUp the arrow up in an empty field; false: nothing to edit
   * @param {() => void} parts.onEscape
   */
  constructor({ label, onSend, onTyping, onUp, onEscape }) {
    this.onSend = onSend;
    this.area = h('textarea', { rows: '1', 'aria-label': label, placeholder: label, autocomplete: 'off' });
    this.problem = h('p', { class: 'problem', role: 'alert' });
    const send = iconButton('send', 'Send', () => {}, { type: 'submit', class: 'icon-button send' });
    this.element = h('form', { class: 'composer' }, h('div', { class: 'field' }, this.area, send), this.problem);
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    this.area.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      } else if (event.key === 'ArrowUp' && this.area.value === '') {
        if (onUp()) event.preventDefault();
      } else if (event.key === 'Escape') {
        onEscape();
      }
    });
    this.area.addEventListener('input', () => {
      this.problem.textContent = '';
      this.#grow();
      if (this.area.value.trim() !== '') onTyping();
    });
  }

  setLabel(label) {
    this.area.setAttribute('aria-label', label);
    this.area.setAttribute('placeholder', label);
  }

  get draft() {
    return this.area.value;
  }

  set draft(text) {
    this.area.value = text;
    this.problem.textContent = '';
    this.#grow();
  }

  focus() {
    this.area.focus();
  }

  #send() {
    const text = this.area.value.trim();
    if (text === '') return;
    const wrong = this.onSend(text);
    this.problem.textContent = wrong ?? '';
    if (!wrong) this.draft = '';
  }

  /** Where the browser cannot size a field by its text. */
  #grow() {
    if (CSS.supports('field-sizing', 'content')) return;
    this.area.rows = Math.min(8, this.area.value.split('\n').length);
  }
}
