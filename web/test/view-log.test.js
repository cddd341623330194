import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Timeline } from '../assets/timeline.js';
import { LogView } from '../assets/view-log.js';
import { withElements } from '../testing/elements.js';
import { history, ME, message } from '../testing/page.js';

beforeEach(withElements);

const messages = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => message('C1', from + at));

/** A log that shows `shown`, and what it says of its place. */
function logOf(shown) {
  const said = [];
  const model = {
    me: ME,
    atEnd: false,
    user: (id) => ({ id, name: id, version: 1 }),
    nameOf: (id) => id,
    channels: new Map(),
    setAtEnd(atEnd) {
      this.atEnd = atEnd;
      said.push(atEnd);
    },
  };
  model.here = () => shown.source;
  model.discard = (id) => shown.source.timeline.drop(id);
  const onEscape = () => said.push('escape');
  const view = new LogView(model, { label: 'Messages', source: () => shown.source, inThread: false, onEscape });
  document.body.append(view.outer);
  return { view, said };
}

const place = (more) => ({ id: 'C1', timeline: new Timeline(), loading: false, loadError: null, newSince: null, ...more });

test('a first opening stops at what is new, whenever that is there', () => {
  const source = place({ newSince: 10, loading: true });
  const { view, said } = logOf({ source });
  view.draw();
  assert.deepEqual(said, [], 'nothing is there to be at the end of');
  source.timeline.replaceThrough(20, history(messages(1, 20)));
  source.loading = false;
  view.draw();
  const line = view.element.querySelector('.new-line').getBoundingClientRect();
  assert.ok(line.top >= 0 && line.bottom <= 300, String(line.top));
  assert.deepEqual(said, []);
  const { scrollTop } = view.element;
  source.timeline.add(message('C1', 21));
  view.draw();
  assert.equal(view.element.scrollTop, scrollTop, 'it stays there');
  view.scrollToEnd();
  view.element.listeners.get('scroll')();
  assert.deepEqual(said, [true]);
});

test('what is read stays where it is when older messages come', () => {
  const source = place({ newSince: 0 });
  const { view } = logOf({ source });
  let asked = 0;
  view.model.history = { loadOlder: () => (asked += 1) };
  source.timeline.replaceThrough(70, history(messages(51, 70), { has_more: true }));
  view.draw();
  assert.equal(asked, 1, 'all of it is new: it begins at the top');
  const top = () => view.element.children.find((row) => row.dataset.seq === '51').getBoundingClientRect().top;
  const before = top();
  source.timeline.addOlder(history(messages(1, 50), { has_more: true }));
  view.draw();
  assert.equal(top(), before);
  assert.equal(asked, 1, 'one page is enough');
});

test('a channel with nothing new begins at its end, and another one when it is drawn', () => {
  const shown = { source: place() };
  const { view, said } = logOf(shown);
  shown.source.timeline.replaceThrough(20, history(messages(1, 20)));
  view.draw();
  assert.equal(view.element.scrollTop, view.element.scrollHeight - 300);
  assert.deepEqual(said, [true]);
  view.model.atEnd = false;
  shown.source = place();
  view.element.listeners.get('scroll')();
  assert.deepEqual(said, [true], 'that is not the end of the other one');
});

const click = (button) => button.listeners.get('click')({ currentTarget: button });

test('the focus never falls to the page when its button goes', () => {
  const source = place();
  source.timeline.replaceThrough(2, history([message('C1', 1, { user: ME }), message('C1', 2, { user: ME })]));
  source.timeline.addPending({ message_id: 'a', user: ME, text: 'x', thread: null, ts_ms: 3, state: 'failed', error: { message: 'no' } });
  const { view, said } = logOf({ source });
  view.draw();
  const rows = view.element.children.filter((row) => row.dataset.seq);
  const offer = (row) => view.element.listeners.get('pointerover')({ target: row });
  const press = (name) => {
    const button = view.toolbar.querySelector(`[data-name="${name}"]`);
    button.focus();
    click(button);
  };
  offer(rows[0]);
  press('delete');
  assert.equal(document.activeElement.textContent, 'Delete for everybody');
  click(view.toolbar.children[0]);
  assert.equal(document.activeElement, rows[0], 'it is kept');
  // The actions follow the pointer, and leave the focus behind.
  offer(rows[0]);
  view.toolbar.children[0].focus();
  offer(rows[1]);
  assert.equal(document.activeElement, rows[0]);
  // A picker that is closed again, or whose reaction was given.
  press('react');
  assert.equal(document.activeElement.tag, 'input');
  press('react');
  assert.equal(document.activeElement.dataset.name, 'react');
  press('react');
  view.model.react = () => {};
  click(view.toolbar.querySelector('.picker').children[0]);
  assert.equal(document.activeElement.dataset.name, 'react');
  said.length = 0;
  click(view.element.querySelector('[data-name="discard"]'));
  assert.deepEqual(said, ['escape']);
});
