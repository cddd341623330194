import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Pause, reconnects, Session } from '../assets/session.js';
import { seeded } from '../testing/random.js';

const HELLO = { type: 'hello', pod: 'edge-1', heartbeat_ms: 15_000, max_frame_bytes: 65_536 };
const C = 'C000000002';

const message = (seq, text = `m${seq}`, user = 'U2') => ({
  type: 'message', channel: C, seq, message_id: `id-${seq}`, user, text, ts_ms: seq,
});

function connected(now = 0) {
  const session = new Session(() => 0.5);
  session.connected(HELLO, now);
  return session;
}

/** Everything that it wants to write now. */
function written(session, now) {
  const frames = [];
  for (;;) {
    session.tick(now);
    const frame = session.nextFrame(now);
    if (frame === null) return frames;
    frames.push(JSON.parse(frame));
  }
}

function outputs(session, ...types) {
  const all = session.outputs.splice(0);
  return types.length > 0 ? all.filter((one) => types.includes(one.type)) : all;
}

test('join is answered, records come once, and the cursor is what was synced', () => {
  const session = connected();
  session.join(C);
  const [join] = written(session, 1);
  assert.deepEqual(join, { id: 1, type: 'join', channel: C });
  session.onFrame(message(5), 2); // of an earlier join: not ours
  session.onFrame({ reply_to: 1, ok: true, channel: C, head: 10, recovered: true }, 3);
  session.onFrame(message(10), 4);
  session.onFrame(message(12), 4);
  session.onFrame(message(11), 4);
  session.onFrame(message(12), 4);
  assert.deepEqual(outputs(session, 'record').map((one) => one.record.seq), [12, 11]);
  assert.equal(session.cursor(C), 10);
  session.onFrame({ type: 'synced', channel: C, seq: 12 }, 5);
  assert.equal(session.cursor(C), 12);
  // What was synced was delivered.
  assert.deepEqual(written(session, 6), [{ id: 2, type: 'mark', channel: C, delivered: 12 }]);
});

test('after a reconnect it goes on from the cursor, through whichever edge', () => {
  const session = connected();
  session.join(C);
  written(session, 1);
  session.onFrame({ reply_to: 1, ok: true, channel: C, head: 10, recovered: true }, 2);
  session.onFrame(message(11), 3);
  session.onFrame({ type: 'synced', channel: C, seq: 11 }, 3);
  session.onFrame(message(13), 3);
  session.disconnected(4);
  session.connected({ ...HELLO, pod: 'edge-2' }, 5);
  const join = written(session, 5).find((frame) => frame.type === 'join');
  assert.equal(join.since, 11);
  outputs(session);
  session.onFrame({ reply_to: join.id, ok: true, channel: C, head: 14, recovered: true }, 6);
  session.onFrame({ type: 'replay', channel: C, since: 11 }, 6);
  for (const seq of [12, 13, 14]) session.onFrame(message(seq), 6);
  session.onFrame({ type: 'synced', channel: C, seq: 14 }, 6);
  const records = outputs(session, 'record');
  assert.deepEqual(records.map((one) => one.record.seq), [12, 14], '13 was given before');
  assert.ok(records.every((one) => one.old));
});

test('a copy with a lower seq moves the message, a higher one is dropped', () => {
  const session = connected();
  session.join(C);
  written(session, 1);
  session.onFrame({ reply_to: 1, ok: true, channel: C, head: 0, recovered: true }, 2);
  session.onFrame({ ...message(9), message_id: 'same' }, 3);
  session.onFrame({ ...message(7), message_id: 'same' }, 3);
  session.onFrame({ ...message(8), message_id: 'same' }, 3);
  assert.deepEqual(
    outputs(session, 'record', 'reseq').map((one) => [one.type, one.record?.seq ?? one.to]),
    [['record', 9], ['reseq', 7]],
  );
});

test('a join that could not go on starts at its head, even a lower one', () => {
  const session = connected();
  session.join(C, 50);
  assert.equal(written(session, 1)[0].since, 50);
  session.onFrame({ reply_to: 1, ok: true, channel: C, head: 20, recovered: false, reason: 'away' }, 2);
  assert.equal(session.cursor(C), 20);
  assert.deepEqual(outputs(session, 'joined'), [
    { type: 'joined', channel: C, head: 20, recovered: false, reason: 'away', since: 50 },
  ]);
});

test('left asks again with the cursor, and channel_not_found ends it', () => {
  const session = connected();
  session.join(C);
  written(session, 1);
  session.onFrame({ reply_to: 1, ok: true, channel: C, head: 3, recovered: true }, 2);
  session.onFrame({ type: 'left', channel: C }, 3);
  const [join] = written(session, 3);
  assert.equal(join.since, 3);
  const error = { code: 'channel_not_found', message: 'no', retryable: false };
  session.onFrame({ reply_to: join.id, ok: false, error }, 4);
  assert.equal(outputs(session, 'join-failed').length, 1);
  session.disconnected(5);
  session.connected(HELLO, 6);
  assert.deepEqual(written(session, 6), []);
});

test('a refused join is asked again after its delay', () => {
  const session = connected();
  session.join(C);
  written(session, 1);
  const error = { code: 'bus_unavailable', message: 'later', retryable: true, retry_after_ms: 500 };
  session.onFrame({ reply_to: 1, ok: false, error }, 10);
  assert.deepEqual(written(session, 11), []);
  const due = session.nextDue(11);
  assert.ok(due >= 510 && due <= 760, String(due));
  assert.equal(written(session, due)[0].type, 'join');
});

test('nothing is written after a goodbye, and the server says when to come back', () => {
  const session = connected();
  session.join(C);
  session.onFrame({ type: 'goodbye', reason: 'restart', reconnect_after_ms: 1_234 }, 1);
  session.send(C, { type: 'message', text: 'hi' }, 'a');
  session.typing(C, 2);
  assert.deepEqual(written(session, 2), []);
  assert.deepEqual(written(session, 20_000), [], 'no ping either');
  session.disconnected(3);
  assert.equal(new Pause(() => 1).after({ code: 1012, session, healthyMs: 0 }), 1_234);
  session.connected(HELLO, 4);
  assert.deepEqual(written(session, 4).map((frame) => frame.type), ['join', 'message']);
});

test('a send that was on a broken connection goes again under its id, with retry', () => {
  const session = connected();
  session.send(C, { type: 'message', text: 'one' }, 'a');
  session.send(C, { type: 'message', text: 'two' }, 'b');
  assert.deepEqual(written(session, 1).map((frame) => [frame.text, frame.retry]), [
    ['one', undefined], ['two', undefined],
  ]);
  session.onFrame({ reply_to: 1, ok: true, channel: C, message_id: 'a', seq: 4, ts_ms: 1 }, 2);
  session.disconnected(3);
  session.connected(HELLO, 4);
  const [again] = written(session, 4);
  assert.deepEqual([again.client_msg_id, again.retry], ['b', true]);
  session.onFrame({ reply_to: again.id, ok: true, channel: C, message_id: 'b', seq: null, fence: 9, ts_ms: 2 }, 5);
  assert.deepEqual(outputs(session, 'settled').map((one) => [one.messageId, one.ok.seq]), [
    ['a', 4], ['b', null],
  ]);
});

test('rejected goes again without retry, unknown with it, a refusal ends it', () => {
  const session = connected();
  session.send(C, { type: 'message', text: 'x' }, 'a');
  let [frame] = written(session, 0);
  const refuse = (error, now) => {
    session.onFrame({ reply_to: frame.id, ok: false, error: { message: '', ...error } }, now);
    [frame] = written(session, session.nextDue(now)).filter((one) => one.type === 'message');
  };
  refuse({ code: 'overloaded', retryable: true, outcome: 'rejected' }, 1);
  assert.equal(frame.retry, undefined);
  refuse({ code: 'log_unavailable', retryable: true, outcome: 'unknown' }, 2);
  assert.equal(frame.retry, true);
  refuse({ code: 'channel_not_found', retryable: false, outcome: 'rejected' }, 3);
  assert.equal(frame, undefined);
  const [settled] = outputs(session, 'settled');
  assert.equal(settled.error.code, 'channel_not_found');
  assert.equal(settled.error.outcome, 'unknown', 'an earlier copy may be in the log');
});

test('what is held back holds back the rest of its channel alone', () => {
  const session = connected();
  session.send(C, { type: 'message', text: '1' }, 'a');
  const [frame] = written(session, 0);
  session.send(C, { type: 'message', text: '2' }, 'b');
  session.send('C000000009', { type: 'message', text: '3' }, 'c');
  const error = { code: 'overloaded', message: '', retryable: true, retry_after_ms: 1_000, outcome: 'rejected' };
  session.onFrame({ reply_to: frame.id, ok: false, error }, 1);
  assert.deepEqual(written(session, 2).map((one) => one.text), ['3']);
  assert.deepEqual(written(session, 2_000).map((one) => one.text), ['1', '2']);
});

test('a text that is too long as JSON is refused here', () => {
  const session = connected();
  session.send(C, { type: 'message', text: '\u0001'.repeat(16_000) }, 'a');
  assert.deepEqual(written(session, 0), []);
  assert.equal(outputs(session, 'settled')[0].error.code, 'text_too_long');
});

test('silence is answered by a ping, and silence after it is the end', () => {
  const session = connected();
  assert.equal(session.nextDue(0), 15_000);
  assert.deepEqual(written(session, 15_000), [{ type: 'ping' }]);
  assert.deepEqual(written(session, 16_000), []);
  assert.equal(session.deadAt(), 25_000);
  session.onFrame({ type: 'pong' }, 20_000);
  assert.equal(session.deadAt(), Infinity);
  session.send(C, { type: 'message', text: 'x' }, 'a');
  written(session, 21_000);
  assert.equal(session.deadAt(), 41_000, 'a reply is owed');
});

test('what the server is to know is told on every connection', () => {
  const session = connected();
  session.setPresence('away');
  session.watch(['U1', 'U2']);
  session.watch(['U1', 'U3']);
  assert.deepEqual(written(session, 0).map(({ type, state, users }) => [type, state ?? users]), [
    ['presence', 'away'], ['watch', ['U1', 'U3']],
  ]);
  session.onFrame({ reply_to: 2, ok: true, users: [{ user: 'U1', state: 'active' }] }, 1);
  assert.deepEqual(outputs(session, 'presence'), [{ type: 'presence', user: 'U1', state: 'active' }]);
  session.watch(['U1', 'U3']);
  assert.deepEqual(written(session, 2), []);
  session.disconnected(3);
  session.connected(HELLO, 4);
  assert.deepEqual(written(session, 4).map((frame) => frame.type), ['presence', 'watch']);
});

test('typing is said at most once in three seconds', () => {
  const session = connected();
  for (const now of [0, 1_000, 2_999, 3_000]) session.typing(C, now);
  assert.equal(written(session, 3_000).length, 2);
});

test('a channel that one was added to is told, and joined by the page alone', () => {
  const session = connected();
  session.onFrame({ type: 'added', channel: C }, 1);
  assert.deepEqual(outputs(session, 'added'), [{ type: 'added', channel: C }]);
  assert.equal(session.nextFrame(2), null);
});

test('a direct channel that the server joined is one like any', () => {
  const session = connected();
  session.onFrame({ type: 'joined', channel: 'D000000007', head: 5, with: 'U2' }, 1);
  session.onFrame({ ...message(6), channel: 'D000000007' }, 2);
  assert.deepEqual(outputs(session).map((one) => one.type), ['connected', 'direct', 'record']);
  session.onFrame({ type: 'synced', channel: 'D000000007', seq: 6 }, 2);
  session.disconnected(3);
  session.connected(HELLO, 4);
  assert.equal(written(session, 4).find((frame) => frame.type === 'join').since, 6);
  // Announced again before our own join is answered: ours knows the cursor.
  session.onFrame({ type: 'joined', channel: 'D000000007', head: 9, with: 'U2' }, 5);
  assert.equal(session.cursor('D000000007'), 6);
});

test('marks: the newest, once a second and channel, again after a break', () => {
  const session = connected();
  session.mark(C, 5, 0);
  session.mark(C, 9, 7);
  const [mark] = written(session, 0);
  assert.deepEqual(mark, { id: 1, type: 'mark', channel: C, delivered: 9, read: 7 });
  session.mark(C, 3, 12);
  assert.deepEqual(written(session, 500), []);
  session.onFrame({ reply_to: 1, ok: true, channel: C }, 500);
  assert.deepEqual(written(session, 500), []);
  assert.deepEqual(written(session, 1_000), [
    { id: 2, type: 'mark', channel: C, delivered: 12, read: 12 },
  ]);
  session.onFrame({ reply_to: 2, ok: true, channel: C }, 1_100);
  session.disconnected(2_000);
  session.connected(HELLO, 2_001);
  assert.equal(written(session, 2_001)[0].read, 12, 'the server may have lost it');
});

test('close codes are those of the protocol', () => {
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4008, 4009, 4401]) {
    assert.ok(reconnects(code), String(code));
  }
  for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 4501, 4502]) {
    assert.ok(!reconnects(code), String(code));
  }
});

test('delays grow to the cap and begin again after health', () => {
  const pause = new Pause(() => 1);
  const session = new Session();
  const after = (healthyMs) => pause.after({ code: 1006, session, healthyMs });
  assert.deepEqual([after(0), after(0), after(0)], [250, 500, 1_000]);
  for (let i = 0; i < 20; i += 1) after(0);
  assert.equal(after(0), 30_000);
  assert.equal(after(30_000), 250);
});

/** A server that keeps what it is sent, once each, and may die at any moment. */
class Server {
  constructor() {
    this.log = [];
    this.seq = 0;
  }

  /** What it does with a frame: replies and events; `lose` dies after the append. */
  take(frame, lose) {
    if (frame.type === 'join') {
      const since = frame.since ?? this.seq;
      const missed = this.log.filter((record) => record.seq > since);
      const reply = { reply_to: frame.id, ok: true, channel: C, head: this.seq, recovered: true };
      return [reply, { type: 'replay', channel: C, since }, ...missed, this.synced()];
    }
    if (frame.type !== 'message') return frame.id ? [{ reply_to: frame.id, ok: true, channel: C }] : [];
    const known = this.log.find((record) => record.message_id === frame.client_msg_id);
    this.seq += 1 + (frame.text.length % 3);
    const record = known ?? { ...message(this.seq, frame.text, 'U1'), message_id: frame.client_msg_id };
    if (!known) this.log.push(record);
    assert.ok(!known || frame.retry, 'the same again says so');
    if (lose) return [];
    const seq = frame.retry ? null : record.seq;
    return [...(known ? [] : [record]), this.synced(), { reply_to: frame.id, ok: true, message_id: frame.client_msg_id, seq, ts_ms: 1 }];
  }

  synced() {
    return { type: 'synced', channel: C, seq: this.seq };
  }
}

test('whatever breaks, every message is in the log once and shown once', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seeded(seed);
    const server = new Server();
    const session = new Session(random);
    const shown = [];
    const settled = new Set();
    let sent = 0;
    let now = 0;
    let wire = [];
    const look = () => {
      for (const output of outputs(session)) {
        if (output.type === 'record') shown.push(output.record.message_id);
        if (output.type === 'settled') settled.add(output.messageId);
      }
    };
    session.join(C, 0);
    for (let step = 0; step < 120 || settled.size < sent; step += 1) {
      assert.ok(step < 5_000, `seed ${seed} does not end`);
      const calm = step >= 120;
      const chance = random();
      if (!session.isConnected()) {
        session.connected(HELLO, now);
        wire = [];
      } else if (!calm && chance < 0.1) {
        session.disconnected(now);
      } else if (!calm && chance < 0.4) {
        session.send(C, { type: 'message', text: 'x'.repeat(1 + Math.floor(random() * 4)) }, `m${sent}`);
        sent += 1;
      } else if (chance < 0.7) {
        for (const frame of written(session, now)) {
          const lose = !calm && random() < 0.1;
          wire.push(...server.take(frame, lose));
          if (lose) {
            session.disconnected(now);
            break;
          }
        }
      } else if (session.isConnected()) {
        const some = wire.splice(0, 1 + Math.floor(random() * 3));
        for (const frame of some) session.onFrame(frame, now);
      }
      look();
      now += Math.floor(random() * 400);
    }
    for (const frame of wire) if (session.isConnected()) session.onFrame(frame, now);
    look();
    // A last reconnect gives what is missing yet.
    session.disconnected(now);
    session.connected(HELLO, now);
    for (const frame of written(session, now)) for (const answer of server.take(frame)) session.onFrame(answer, now);
    look();
    assert.equal(server.log.length, sent, `seed ${seed}: each once in the log`);
    assert.equal(new Set(shown).size, shown.length, `seed ${seed}: none shown twice`);
    assert.deepEqual([...shown].sort(), server.log.map((record) => record.message_id).sort(), `seed ${seed}`);
  }
});
