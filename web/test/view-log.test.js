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
  const view = new LogView(model, { label: 'Messages', source: () => shown.source, inThread: false });
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
