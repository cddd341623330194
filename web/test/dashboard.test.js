import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Board, listenText, niceTop, podsText } from '../assets/board.js';
import { EventParser, EventStream } from '../assets/events.js';
import { seeded } from '../testing/random.js';

const pod = (name, sockets) => ({ pod: name, region: 'home', sockets, channels: 1, messages_per_s: 0, state: 'reporting' });
const channel = (id, connections) => ({ channel: id, name: id.toLowerCase(), kind: 'public', connections, messages_per_s: 0 });
const totals = (sockets) => ({ pods: 2, sockets, channels: 2, messages_per_s: 1.5 });
const snapshot = (data) => ({ type: 'snapshot', data: { at_ms: 0, complete: true, missing: [], more: 0, ...data } });

test('events are put together from whatever pieces come', () => {
  const text = ': hello\r\nretry: 1000\n\nid: a-1\nevent: snapshot\ndata: {"x":\ndata: 1}\n\nid: a-2\r\nevent: change\r\ndata: {}\r\n\r\ndata: plain\n\n';
  const expected = [
    { type: 'snapshot', id: 'a-1', data: '{"x":\n1}' },
    { type: 'change', id: 'a-2', data: '{}' },
    { type: 'message', id: 'a-2', data: 'plain' },
  ];
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seeded(seed);
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; ) {
      const size = 1 + Math.floor(random() * 9);
      events.push(...parser.push(text.slice(at, at + size)));
      at += size;
    }
    assert.deepEqual(events, expected, `seed ${seed}`);
    assert.equal(parser.retryMs, 1_000);
  }
});

test('changes are put on top of the snapshot, and a new snapshot replaces all', () => {
  const board = new Board();
  board.apply(snapshot({ totals: totals(5), pods: [pod('edge-1', 3), pod('edge-2', 2)], channels: [channel('C1', 4), channel('C2', 1)] }));
  board.apply({ type: 'change', data: { totals: totals(9), more: 3, pods: [pod('edge-2', 6)], pods_gone: ['edge-1'], channels: [channel('C3', 6)], channels_gone: ['C2'], complete: false, missing: ['edge-1'] } });
  assert.deepEqual(board.podRows().map((row) => [row.pod, row.sockets]), [['edge-2', 6]]);
  assert.deepEqual(board.channelRows().map((row) => row.channel), ['C3', 'C1']);
  assert.deepEqual([board.totals.sockets, board.more, board.complete], [9, 3, false]);
  board.apply(snapshot({ totals: totals(1), pods: [pod('edge-3', 1)], channels: [] }));
  assert.deepEqual([board.podRows().length, board.channelRows().length, board.complete], [1, 0, true]);
});

test('pods keep their places, and somebody is told to be on each once', () => {
  const board = new Board();
  board.apply(snapshot({ totals: totals(5), pods: [pod('edge-10', 3), pod('edge-2', 2), pod('edge-1', 2)], channels: [] }));
  assert.deepEqual(board.podRows().map((row) => row.pod), ['edge-1', 'edge-2', 'edge-10']);
  assert.equal(podsText(['edge-10', 'edge-2', 'edge-10', 'edge-1']), 'edge-1, edge-2, edge-10 ×2');
  assert.equal(podsText([]), '');
});

test('who listens is said in words', () => {
  const one = { socket: 's1', user: 1, device: 'd', pod: 'edge-1' };
  const live = { channel: 'C1', listeners: [one], more: 0, complete: true, missing: [] };
  assert.equal(listenText(live), '1 socket listens now.');
  assert.equal(listenText({ ...live, listeners: [] }), '0 sockets listen now.');
  assert.equal(
    listenText({ ...live, more: 1_999, complete: false, missing: ['edge-2', 'edge-3'] }),
    '2,000 sockets listen now. No answer from edge-2, edge-3.',
  );
});

test('rows that stand for many are told apart', () => {
  const board = new Board();
  const sum = { channel: 'direct', name: null, kind: 'direct', connections: 40, messages_per_s: 2, channels: 7 };
  board.apply(snapshot({ totals: totals(5), pods: [], channels: [sum, channel('C1', 4)] }));
  assert.deepEqual(board.channelRows().map((row) => row.channel), ['C1']);
  assert.deepEqual(board.sumRows(), [sum]);
});

test('of the chosen channel alone is told what passes, once and bounded', () => {
  const board = new Board();
  board.choose('C1');
  const record = (seq, id = 'C1') => ({ type: 'record', data: { type: 'message', channel: id, seq, text: 'x' } });
  for (const event of [record(1), record(1), record(2, 'C2')]) board.apply(event);
  board.apply({ type: 'live', data: { channel: 'C1', listeners: [{ user: 'U1', pod: 'edge-1' }], complete: true, missing: [] } });
  assert.equal(board.records.length, 1);
  assert.equal(board.live.listeners.length, 1);
  for (let seq = 2; seq < 400; seq += 1) board.apply(record(seq));
  assert.equal(board.records.length, 200);
  board.apply({ type: 'left', data: { channel: 'C1' } });
  assert.ok(board.left && board.live === null);
  board.choose('C2');
  assert.deepEqual([board.records.length, board.left], [0, false]);
});

test('the line is broken where nothing was known, and two minutes long', () => {
  const board = new Board();
  const at = (second) => second * 1_000;
  board.apply(snapshot({ totals: totals(7), pods: [], channels: [] }));
  for (let second = 0; second < 200; second += 1) {
    if (second === 150) board.disconnected();
    if (second === 160) board.apply(snapshot({ totals: totals(8), pods: [], channels: [] }));
    board.sample(at(second));
  }
  const runs = board.line('sockets', at(199));
  assert.deepEqual(runs.map((run) => run.length), [71, 40]);
  assert.deepEqual([runs[0][0].y, runs[1].at(-1)], [7, { x: 1, y: 8 }]);
  assert.ok(runs.flat().every(({ x }) => x >= 0 && x <= 1));
});

test('a scale ends at a round number that holds what is shown', () => {
  for (const [most, top] of [[0, 1], [1, 1], [1.2, 2], [3, 5], [7, 10], [10, 10], [11, 20], [4_999, 5_000], [5_001, 10_000]]) {
    assert.equal(niceTop(most), top, String(most));
  }
});

test('a stream is read in a browser that cannot walk over streams', async (t) => {
  const walk = ReadableStream.prototype[Symbol.asyncIterator];
  const { fetch } = globalThis;
  t.after(() => {
    ReadableStream.prototype[Symbol.asyncIterator] = walk;
    globalThis.fetch = fetch;
  });
  delete ReadableStream.prototype[Symbol.asyncIterator];
  const text = 'event: snapshot\ndata: {"more":1}\n\nevent: goodbye\ndata: {"reconnect_after_ms":60000}\n\n';
  globalThis.fetch = async () => new Response(text);
  const events = [];
  const state = await new Promise((resolve) => {
    const stream = new EventStream({
      path: () => '/api/events',
      token: () => '',
      checkToken: async () => 'good',
      onEvent: (event) => events.push(event),
      onState: (now) => now.state === 'waiting' && resolve(now),
    });
    t.after(() => stream.close());
    stream.open();
  });
  assert.deepEqual(events, [{ type: 'snapshot', data: { more: 1 } }]);
  assert.equal(state.reason, 'the server ended it');
});
