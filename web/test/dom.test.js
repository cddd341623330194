import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { h, patch } from '../assets/dom.js';
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
