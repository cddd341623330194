import assert from 'node:assert/strict';
import { test } from 'node:test';

import { rowsOf, signOf, Timeline } from '../assets/timeline.js';
import { seeded } from '../testing/random.js';

const DAY = 86_400_000;
const NOON = new Date(2026, 0, 10, 12).getTime();

const message = (seq, more = {}) => ({
  type: 'message', seq, message_id: `id-${seq}`, user: 'U2', text: `m${seq}`, ts_ms: NOON + seq, ...more,
});
const change = (type, seq, target, more = {}) => ({
  type, seq, target, message_id: `id-${seq}`, user: 'U2', ts_ms: NOON + seq, ...more,
});
const page = (messages, has_more = false) => ({ messages, has_more, head: messages.at(-1)?.seq ?? 0 });
const texts = (timeline) => timeline.list().map((entry) => entry.text);

test('records are sorted by seq and each is there once', () => {
  const timeline = new Timeline();
  for (const seq of [3, 1, 2, 3]) timeline.add(message(seq));
  assert.deepEqual(texts(timeline), ['m1', 'm2', 'm3']);
  timeline.reseq('U2/id-3', 0);
  assert.deepEqual(texts(timeline), ['m3', 'm1', 'm2']);
  assert.equal(timeline.bySeq.get(0).text, 'm3');
  assert.equal(timeline.bySeq.get(3), undefined);
});

test('of two edits the later seq stands, and nothing is read after a deletion', () => {
  const timeline = new Timeline();
  timeline.add(message(1));
  timeline.add(change('message_changed', 5, 1, { text: 'later' }));
  timeline.add(change('message_changed', 4, 1, { text: 'sooner' }));
  assert.deepEqual(texts(timeline), ['later']);
  timeline.add(change('message_changed', 6, 1, { text: '' }));
  assert.deepEqual(texts(timeline), ['later'], 'an empty text is not to be applied');
  timeline.add(change('message_deleted', 7, 1));
  timeline.add(change('message_changed', 8, 1, { text: 'again' }));
  assert.deepEqual(texts(timeline), ['']);
  assert.ok(timeline.list()[0].deleted);
});

test('a change that comes before its message is applied when that is loaded', () => {
  const timeline = new Timeline();
  timeline.add(change('message_changed', 9, 2, { text: 'edited' }));
  timeline.add(change('reaction_added', 10, 2, { reaction: '+1' }));
  timeline.addOlder(page([message(1), message(2)]));
  const entry = timeline.bySeq.get(2);
  assert.equal(entry.text, 'edited');
  assert.deepEqual([...entry.reactions.get('+1')], ['U2']);
});

test('a page that shows already what a record did is not undone by it', () => {
  const timeline = new Timeline();
  // Given, taken back and given again; the page knows, and the records come all the same.
  timeline.add(message(1, { reactions: [{ reaction: '+1', users: ['U2'] }], edited: { seq: 8, ts_ms: 1, user: 'U2', count: 2 }, text: 'new' }));
  timeline.add(change('message_changed', 5, 1, { text: 'old' }));
  timeline.add(change('reaction_removed', 6, 1, { reaction: '+1' }));
  timeline.add(change('reaction_added', 7, 1, { reaction: '+1' }));
  timeline.add(change('reaction_removed', 6, 1, { reaction: '+1' }));
  const entry = timeline.bySeq.get(1);
  assert.equal(entry.text, 'new');
  assert.deepEqual([...entry.reactions.keys()], ['+1']);
});

test('replies are counted once on their root, from the page or live', () => {
  const timeline = new Timeline();
  timeline.add(message(1, { replies: { count: 2, last_seq: 5, users: ['U3'] } }));
  timeline.add(message(4, { thread: 1 }));
  timeline.add(message(5, { thread: 1 }));
  assert.equal(timeline.bySeq.get(1).replies.count, 2);
  timeline.add(message(6, { thread: 1 }));
  timeline.add(message(6, { thread: 1 }));
  assert.deepEqual(timeline.bySeq.get(1).replies, { count: 3, last_seq: 6, users: ['U3', 'U2'] });
  // Replies that were there before their root.
  const other = new Timeline();
  other.add(message(8, { thread: 2 }));
  other.add(message(9, { thread: 2 }));
  other.add(message(2));
  assert.equal(other.bySeq.get(2).replies.count, 2);
});

test('a message on its way is shown once, whichever tells of it first', () => {
  const sent = { message_id: 'a', user: 'U1', text: 'hi', thread: null, ts_ms: NOON };
  const record = { type: 'message', seq: 7, message_id: 'a', user: 'U1', text: 'hi', ts_ms: NOON };
  for (const echoFirst of [true, false]) {
    const timeline = new Timeline();
    timeline.addPending(sent);
    assert.deepEqual(rowsOf(timeline, { me: 'U1' }).map((row) => row.kind), ['day', 'pending']);
    if (echoFirst) timeline.add(record);
    timeline.acknowledged('a', { seq: 7, ts_ms: NOON });
    if (!echoFirst) timeline.add(record);
    assert.deepEqual(rowsOf(timeline, { me: 'U1' }).map((row) => row.kind), ['day', 'message']);
  }
});

test('one that was sent again waits for its record, a refused one stays', () => {
  const timeline = new Timeline();
  const sent = { message_id: 'a', user: 'U1', text: 'hi', thread: null, ts_ms: NOON };
  timeline.addPending(sent);
  timeline.acknowledged('a', { seq: null, ts_ms: NOON });
  assert.equal(timeline.pending.get('a').state, 'sent');
  timeline.add({ type: 'message', seq: 3, message_id: 'a', user: 'U1', text: 'hi', ts_ms: NOON });
  assert.equal(timeline.pending.size, 0);
  timeline.addPending({ ...sent, message_id: 'b' });
  timeline.failed('b', { code: 'forbidden', message: 'no' });
  assert.equal(rowsOf(timeline, { me: 'U1' }).at(-1).sent.state, 'failed');
  // So it stays in the thread beside the channel, too.
  const thread = new Timeline();
  thread.addPending(timeline.pending.get('b'));
  assert.deepEqual(thread.pending.get('b'), timeline.pending.get('b'));
  timeline.drop('b');
  assert.equal(timeline.pending.size, 0);
});

test('what may have a hole is replaced through the head, what came live after it stays', () => {
  const timeline = new Timeline();
  for (const seq of [1, 2, 3]) timeline.add(message(seq));
  timeline.add(message(101));
  timeline.replaceThrough(100, page([message(99), message(100)], true));
  assert.deepEqual(texts(timeline), ['m99', 'm100', 'm101']);
  assert.ok(timeline.hasOlder && timeline.loaded);
  timeline.trim(2);
  assert.deepEqual(texts(timeline), ['m100', 'm101']);
});

test('lines: a day, what is new, who speaks on', () => {
  const timeline = new Timeline();
  timeline.add(message(1, { ts_ms: NOON - DAY }));
  timeline.add(message(2, { ts_ms: NOON }));
  timeline.add(message(3, { ts_ms: NOON + 1_000 }));
  timeline.add(message(4, { ts_ms: NOON + 2_000, user: 'U1' }));
  timeline.add(message(5, { ts_ms: NOON + 3_000 }));
  timeline.add({ type: 'member_joined', seq: 6, message_id: 'j', user: 'U3', member: 'U3', ts_ms: NOON + 4_000 });
  timeline.add(message(7, { ts_ms: NOON + 10 * 60_000 }));
  const rows = rowsOf(timeline, { me: 'U1', newSince: 3 });
  assert.deepEqual(
    rows.map((row) => (row.kind === 'message' ? `${row.entry.seq}${row.continued ? '+' : ''}` : row.kind)),
    ['day', '1', 'day', '2', '3+', '4', 'new', '5', 'member', '7'],
  );
  assert.equal(new Set(rows.map((row) => row.key)).size, rows.length);
});

test('a day that comes again is a line of its own', () => {
  const timeline = new Timeline();
  timeline.add(message(1, { ts_ms: NOON - DAY }));
  timeline.add(message(2, { ts_ms: NOON }));
  timeline.addPending({ message_id: 'a', user: 'U1', text: 'late', thread: null, ts_ms: NOON - DAY });
  const rows = rowsOf(timeline, { me: 'U1' });
  assert.deepEqual(rows.map((row) => row.kind), ['day', 'message', 'day', 'message', 'day', 'pending']);
  assert.equal(new Set(rows.map((row) => row.key)).size, rows.length);
});

test('the sign of a direct message is that of the furthest device', () => {
  const at = (delivered, read) => ({ delivered, read });
  assert.equal(signOf(5, []), 'sent');
  assert.equal(signOf(5, [at(4, 4)]), 'sent');
  assert.equal(signOf(5, [at(5, 2), at(3, 3)]), 'delivered');
  assert.equal(signOf(5, [at(5, 2), at(9, 6)]), 'read');
});

test('whatever order records come in, and however often, the end is the same', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seeded(seed);
    const pick = (most) => Math.floor(random() * most);
    const log = [];
    for (let seq = 1; seq <= 30; seq += 1) {
      const target = 1 + pick(6);
      const user = `U${1 + pick(2)}`;
      const kind = seq <= 6 ? 0 : pick(5);
      if (kind === 0) log.push(message(seq, { user }));
      if (kind === 1) log.push(change('message_changed', seq, target, { text: `t${seq}`, user }));
      if (kind === 2 && pick(4) === 0) log.push(change('message_deleted', seq, target, { user }));
      if (kind === 3) log.push(change('reaction_added', seq, target, { reaction: '+1', user }));
      if (kind === 4) log.push(change('reaction_removed', seq, target, { reaction: '+1', user }));
    }
    const said = (timeline) =>
      timeline.list().map((one) => [one.seq, one.text, one.deleted, [...one.reactions].map(([name, users]) => [name, [...users].sort()])]);
    const inOrder = new Timeline();
    for (const record of log) inOrder.add(record);
    const shuffled = new Timeline();
    const deck = [...log, ...log.filter(() => random() < 0.3)];
    while (deck.length > 0) shuffled.add(...deck.splice(pick(deck.length), 1));
    assert.deepEqual(said(shuffled), said(inOrder), `seed ${seed}`);
  }
});

test('what a newest page no longer shows does not come back with what was remembered', () => {
  const timeline = new Timeline();
  timeline.add(message(1));
  timeline.add(change('reaction_added', 10, 1, { reaction: '+1' }));
  // Taken back at 20, while nobody listened.
  timeline.replaceThrough(25, { ...page([message(1)]), head: 25 });
  assert.equal(timeline.bySeq.get(1).reactions.size, 0);
  timeline.add(change('reaction_added', 26, 1, { reaction: '+1' }));
  assert.deepEqual([...timeline.bySeq.get(1).reactions.get('+1')], ['U2']);
});

test('a deleted reply is counted no more, once', () => {
  const timeline = new Timeline();
  const counts = () => timeline.bySeq.get(1).replies.count;
  for (const record of [message(1), message(2, { thread: 1 }), message(3, { thread: 1 })]) timeline.add(record);
  timeline.add(change('message_deleted', 4, 2));
  timeline.add(change('message_deleted', 4, 2));
  assert.equal(counts(), 1);
  timeline.add(message(5, { thread: 1 }));
  assert.equal(counts(), 2);
  // A page that knows of the deletion has taken it off already.
  const replies = { count: 1, last_seq: 3, users: ['U2'] };
  timeline.replaceThrough(6, { ...page([message(1, { replies }), message(2, { thread: 1 })]), head: 6 });
  timeline.add(change('message_deleted', 4, 2));
  assert.equal(counts(), 1);
});
