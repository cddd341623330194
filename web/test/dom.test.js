import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { avatar, h, linked, patch, roomOf } from '../assets/dom.js';
import { withElements } from '../testing/elements.js';

beforeEach(withElements);

const row = (key, sign = key) => ({ key, sign, make: () => h('p', {}, sign) });
const texts = (parent) => parent.children.map((child) => child.textContent);

test('children become the rows, and what has not changed stays', () => {
  const parent = h('div');
  patch(parent, ['a', 'b', 'c'].map((key) => row(key)));
  const [, b] = parent.children;
  b.focus();
  patch(parent, [row('b'), row('c', 'C'), row('d')]);
  assert.deepEqual(texts(parent), ['b', 'C', 'd']);
  assert.equal(parent.children[0], b);
  assert.equal(document.activeElement, b, 'it was not moved');
});

test('a key that is there twice leaves nothing behind', () => {
  const parent = h('div');
  const rows = [row('day'), row('m1'), row('day'), row('m2')];
  for (let turn = 0; turn < 3; turn += 1) patch(parent, rows);
  assert.deepEqual(texts(parent), ['day', 'm1', 'day', 'm2']);
  patch(parent, [row('m2')]);
  assert.deepEqual(texts(parent), ['m2']);
});

const addresses = (text) =>
  linked(text).filter((part) => typeof part !== 'string').map((link) => link.getAttribute('href'));

test('an address ends where its sentence ends, and keeps the brackets that it opened', () => {
  assert.deepEqual(addresses('see http://a.b/c. Or (https://a.b/c_(d)), not http://x?!'), [
    'http://a.b/c', 'https://a.b/c_(d)', 'http://x',
  ]);
  assert.deepEqual(addresses('http://a/(b).)'), ['http://a/(b)']);
});

test('an address with very many brackets is read at once', () => {
  // If each were counted anew, this would not end.
  const many = ')'.repeat(300_000);
  assert.deepEqual(addresses(`http://x${many}`), ['http://x']);
  assert.deepEqual(addresses(`http://x${'('.repeat(300_000)}${many}.`).map((one) => one.length), [600_008]);
});

test('a picture is asked of our own server alone', () => {
  const isShown = (picture) => avatar({ id: 'U1', name: 'x', picture }).children.length === 1;
  for (const own of ['/pictures/a.png', '/', 'data:image/png;base64,AA==']) assert.ok(isShown(own), own);
  const strangers = ['//evil.example/x.png', '/\\evil.example/x.png', '/\t/evil.example', '/a\n', '/\r\n/e', 'https://evil.example'];
  for (const other of strangers) assert.ok(!isShown(other), JSON.stringify(other));
});

test('an address names a room, or nothing that a server would know', () => {
  const rooms = { '/ui': '', '/ui/Maths': 'Maths', '/ui/caf%C3%A9': 'café', '/ui/%E0%A4%A': '%E0%A4%A' };
  for (const [path, room] of Object.entries(rooms)) assert.equal(roomOf(path), room);
});
