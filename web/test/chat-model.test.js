import assert from 'node:assert/strict';
import { test } from 'node:test';

import { channel, history, ME, message, Page, pass, settled, unreadOf } from '../testing/page.js';

const later = () => {
  const parts = {};
  parts.promise = new Promise((resolve) => Object.assign(parts, { resolve }));
  return parts;
};
const answer = (...channels) => async () => ({ channels });

test('what is unread is counted once, by the server or by the page', async (t) => {
  const page = new Page(t);
  await page.start();
  await page.joined({ head: 0 });
  await page.reconnect();
  // The server counts five, and the resume brings the same ones.
  page.model.api.unread = answer(unreadOf('C1', { unread: 5, head: 5 }));
  await page.model.refresh();
  assert.equal(page.channel().unread, 5);
  await page.joined({ head: 5 });
  for (let seq = 1; seq <= 5; seq += 1) page.frame(message('C1', seq));
  assert.equal(page.channel().unread, 5);
  page.frame(message('C1', 6));
  assert.equal(page.channel().unread, 6);
});

test('what came live and is not stored yet stays counted', async (t) => {
  const page = new Page(t);
  await page.start();
  await page.joined();
  for (let seq = 1; seq <= 5; seq += 1) page.frame(message('C1', seq));
  await page.model.refresh();
  assert.equal(page.channel().unread, 5);
  page.model.api.unread = answer(unreadOf('C1', { unread: 3, head: 3 }));
  await page.model.refresh();
  assert.equal(page.channel().unread, 5);
});

test('what came between the count and the join is counted, once the store has it', async (t) => {
  const page = new Page(t);
  await page.start();
  let asked = 0;
  const heads = [1, 2];
  page.model.api.unread = async () => {
    asked += 1;
    const head = heads.shift();
    return { channels: [unreadOf('C1', { unread: head, head })] };
  };
  await page.joined({ head: 2 });
  await pass(1_000);
  assert.equal(page.channel().unread, 1);
  await pass(5_000);
  assert.equal(page.channel().unread, 2);
  await pass(60_000);
  assert.equal(asked, 2);
});

/** A page whose channel is on screen, joined at 50, with these messages as its newest page. */
async function opened(t, messages, more) {
  const page = new Page(t);
  await page.start();
  page.model.api.messages = async () => history(messages, more);
  await page.joined({ head: 50 });
  await page.model.open('C1');
  return page;
}

test('an older page that could not be read is read when it is asked for again', async (t) => {
  const page = await opened(t, [message('C1', 50)], { has_more: true });
  const place = page.channel();
  page.model.api.messages = async () => {
    throw Object.assign(new Error('away'), { retryable: true });
  };
  await page.model.history.loadOlder();
  assert.equal(place.loadError, 'away');
  page.model.api.messages = async () => history([message('C1', 49)]);
  await page.model.history.readAgain();
  assert.equal(place.loadError, null);
  assert.deepEqual(place.timeline.list().map((one) => one.seq), [49, 50]);
});

test('after a join that knows no head the newest page leaves no hole', async (t) => {
  const page = await opened(t, [message('C1', 49), message('C1', 50)]);
  page.model.api.messages = async () => history([message('C1', 99), message('C1', 100)], { has_more: true });
  await page.reconnect();
  await page.joined({ head: null, recovered: false, reason: 'away' });
  const { timeline } = page.channel();
  assert.deepEqual(timeline.list().map((one) => one.seq), [99, 100]);
  assert.ok(timeline.hasOlder);
});

test('a channel that is joined anew while an older page is read reads its newest page, too', async (t) => {
  const page = await opened(t, [message('C1', 50)], { has_more: true });
  const { promise, resolve } = later();
  page.model.api.messages = () => promise;
  const older = page.model.history.loadOlder();
  await page.reconnect();
  await page.joined({ head: 100, recovered: false, reason: 'away' });
  page.model.api.messages = async () => history([message('C1', 100)], { has_more: true });
  resolve(history([message('C1', 49)]));
  await older;
  await pass(1);
  const { timeline } = page.channel();
  assert.ok(timeline.loaded);
  assert.deepEqual(timeline.list().map((one) => one.seq), [100]);
});

test('whatever asks for the newest page again, it is read by one at a time', async (t) => {
  const page = await opened(t, [message('C1', 50)]);
  let asked = 0;
  page.model.api.messages = async () => {
    asked += 1;
    throw Object.assign(new Error('away'), { retryable: true });
  };
  for (let turn = 0; turn < 4; turn += 1) {
    await page.reconnect();
    await page.joined({ head: 100 + turn, recovered: false, reason: 'away' });
    await pass(100);
  }
  asked = 0;
  for (let turn = 0; turn < 20; turn += 1) await pass(100);
  assert.equal(asked, 1);
});

test('a channel beyond the list is there, if it is one of mine or somebody names it', async (t) => {
  const far = [channel('C8'), channel('C9', { is_member: false })];
  const page = new Page(t, {
    unread: answer(unreadOf('C1'), unreadOf('C8', { unread: 2, head: 2 })),
    channel: async (id) => far.find((one) => one.id === id) ?? Promise.reject(new Error('no')),
    channelNamed: async (name) => far.find((one) => one.name === name) ?? null,
  });
  await page.start();
  assert.equal(page.channel('C8').unread, 2);
  assert.deepEqual(page.written('join').map((join) => join.channel), ['C1', 'C8']);
  assert.equal((await page.model.seek('c9')).id, 'C9');
  assert.equal((await page.model.seek('C9')).id, 'C9');
  assert.equal(await page.model.seek('c7'), null);
});

test('of very many channels the one on screen is listened to', async (t) => {
  const ids = Array.from({ length: 1_000 }, (_, at) => `C${at}`);
  const page = new Page(t, {
    channels: async () => ids.map((id) => channel(id)),
    unread: async () => ({ channels: ids.map((id, at) => unreadOf(id, { last_ts_ms: 1_000 - at })) }),
  });
  await page.start();
  assert.equal(page.written('join').length, 900);
  await page.model.refresh();
  assert.deepEqual(page.written('join'), []);
  await page.model.open('C950');
  assert.deepEqual(page.written('leave', 'join').map((one) => [one.type, one.channel]), [
    ['leave', 'C899'], ['join', 'C950'],
  ]);
});

/** Says something on a page where it has to be sent again; the answer is a fence. */
async function sentAgain(page, fence, thread = null) {
  page.model.say('hi', thread);
  await page.reconnect();
  await page.joined({ head: 50 });
  const { id, client_msg_id: messageId, retry } = page.written().find((one) => one.client_msg_id);
  assert.ok(retry);
  page.frame({ reply_to: id, ok: true, channel: 'C1', message_id: messageId, seq: null, ts_ms: 1, fence });
  return messageId;
}

test('a message that was sent again is shown in its channel, and in no thread', async (t) => {
  const page = await opened(t, [message('C1', 50)]);
  page.model.api.replies = async () => ({ root: message('C1', 50), messages: [], has_more: false, head: 50 });
  await page.model.openThread(50);
  page.model.api.messages = () => late.promise;
  const late = later();
  const messageId = await sentAgain(page, 52);
  late.resolve(history([message('C1', 50), message('C1', 51, { user: ME, message_id: messageId, text: 'hi' })], { head: 52 }));
  await settled();
  assert.deepEqual(page.channel().timeline.list().map((one) => one.seq), [50, 51]);
  assert.deepEqual(page.model.thread.timeline.list().map((one) => one.seq), [50]);
});

test('a message that was sent again and stands far above is on its way no more', async (t) => {
  const page = await opened(t, [message('C1', 49), message('C1', 50)], { has_more: true });
  page.model.api.messages = async () => history([message('C1', 90)], { head: 89 });
  await sentAgain(page, 90);
  await settled();
  assert.equal(page.channel().timeline.pending.size, 1, 'the store is behind');
  page.model.api.messages = async () => history([message('C1', 90)]);
  await sentAgain(page, 90);
  await settled();
  assert.equal(page.channel().timeline.pending.size, 1);
});

test('what another device of mine read is counted by the server, once for many receipts', async (t) => {
  let asked = 0;
  const page = new Page(t, {
    unread: async () => {
      asked += 1;
      return { channels: [unreadOf('C1', { read: asked === 1 ? 0 : 3, unread: asked === 1 ? 10 : 7, head: 10 })] };
    },
  });
  await page.start();
  await page.joined({ head: 10 });
  for (const read of [1, 2, 3]) {
    page.frame({ type: 'receipt', channel: 'C1', user: ME, device: 'other', delivered: 10, read });
  }
  assert.equal(page.channel().unread, 10);
  await pass(1_000);
  assert.deepEqual([page.channel().unread, asked], [7, 2]);
});

test('a thread is read while it is open, and its newest replies are kept', async (t) => {
  const page = await opened(t, [message('C1', 50)]);
  const reply = (seq) => message('C1', seq, { thread: 50 });
  let asked = 0;
  page.model.api.replies = async (id, root, after = 50) => {
    asked += 1;
    const messages = Array.from({ length: 200 }, (_, at) => reply(after + 1 + at));
    return { root: message('C1', 50), messages, has_more: asked < 12, head: 10_000 };
  };
  await page.model.openThread(50);
  const seqs = page.model.thread.timeline.list().map((one) => one.seq);
  assert.deepEqual([asked, seqs.length, seqs[0], seqs.at(-1)], [12, 2_001, 50, 2_450]);
  asked = 0;
  const reading = page.model.openThread(50);
  page.model.closeThread();
  await reading;
  assert.equal(asked, 1);
});

test('who belongs to a channel is asked once for all who come together', async (t) => {
  const page = await opened(t, [message('C1', 50)]);
  const [first, second] = [later(), later()];
  const answers = [first, second];
  let asked = 0;
  page.model.api.members = () => answers[asked++].promise;
  const members = (count, next) => ({
    items: Array.from({ length: count }, (_, at) => ({ user: { id: `U${at}`, name: 'x', version: 1 }, role: 'member' })),
    next,
  });
  let seq = 51;
  for (let turn = 0; turn < 2; turn += 1) {
    for (let one = 0; one < 20; one += 1, seq += 1) {
      page.frame({ type: 'member_joined', channel: 'C1', seq, message_id: `j${seq}`, user: 'U1', member: `U${seq}`, ts_ms: seq });
    }
    await pass(500);
  }
  assert.equal(asked, 2);
  second.resolve(members(200, 'more'));
  await settled();
  first.resolve(members(20, null));
  await settled();
  assert.deepEqual([page.channel().members.length, page.channel().moreMembers], [200, true]);
});

test('what was not seen yet is not read, though all of it is loaded', async (t) => {
  const page = await opened(t, [message('C1', 49), message('C1', 50)]);
  assert.deepEqual([page.channel().timeline.loaded, page.channel().read], [true, 0]);
  page.model.setAtEnd(true);
  assert.equal(page.channel().read, 50);
});

test('a clock that is set back does not silence the page', async (t) => {
  const page = new Page(t);
  await page.start();
  t.mock.method(Date, 'now', () => -3_600_000);
  await pass(15_000);
  assert.deepEqual(page.written('ping'), [{ type: 'ping' }]);
});

test('who comes back looks which channels there are, again after a failure', async (t) => {
  const page = new Page(t);
  await page.start();
  await page.joined();
  let asked = 0;
  page.model.api.channels = async () => {
    asked += 1;
    if (asked === 1) throw Object.assign(new Error('away'), { retryable: true });
    return [channel('C1'), channel('C2', { kind: 'private' })];
  };
  await page.reconnect();
  assert.deepEqual([asked, page.model.channels.has('C2')], [1, false]);
  await pass(6_000);
  assert.deepEqual([asked, page.model.channels.has('C2')], [2, true]);
  assert.ok(page.written('join').some((one) => one.channel === 'C2'));
});

test('how far the other one came meanwhile is asked for after a join', async (t) => {
  const direct = channel('D1', { kind: 'direct', name: null, with: 'U2' });
  const page = new Page(t, { channels: async () => [direct], receipts: async () => ({ receipts: [] }) });
  await page.start();
  await page.joined();
  await page.model.open('D1');
  page.model.api.receipts = async () => ({ receipts: [{ user: 'U2', device: 'phone', delivered: 7, read: 6 }] });
  await page.reconnect();
  await page.joined();
  const place = page.model.channels.get('D1');
  assert.deepEqual(place.receipts.get('U2'), { delivered: 7, read: 6 });
});

test('an open thread is read again where a join could not go on', async (t) => {
  const page = await opened(t, [message('C1', 50)]);
  const replies = [message('C1', 51, { thread: 50 })];
  page.model.api.replies = async () => ({ root: message('C1', 50), messages: [...replies], has_more: false, head: 60 });
  await page.model.openThread(50);
  const { thread } = page.model;
  replies.push(message('C1', 55, { thread: 50 }));
  await page.reconnect();
  await page.joined({ head: 60, recovered: false, reason: 'away' });
  assert.equal(page.model.thread, thread);
  assert.deepEqual(thread.timeline.list().map((one) => one.seq), [50, 51, 55]);
});
