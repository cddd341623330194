// The chat page's model without a browser: the HTTP API is answered by the test, the WebSocket is the
// server's end, and time passes when the test says so.

import { mock } from 'node:test';

import { ChatModel } from '../assets/chat-model.js';

export const ME = 'U1';
const HELLO = { type: 'hello', pod: 'edge-1', heartbeat_ms: 15_000, max_frame_bytes: 65_536 };

/** A channel as the API tells it. */
export const channel = (id, more = {}) => ({
  id, name: id.toLowerCase(), kind: 'public', created_by: ME, created_ms: 0, is_member: true, ...more,
});

/** A message as everybody hears it. */
export const message = (id, seq, more = {}) => ({
  type: 'message', channel: id, seq, message_id: `id-${seq}`, user: 'U2', text: `m${seq}`, ts_ms: seq, ...more,
});

/** A page of history. */
export const history = (messages, more = {}) => ({
  messages, has_more: false, head: messages.at(-1)?.seq ?? 0, ...more,
});

/** What `GET /unread` says of one channel. */
export const unreadOf = (id, more = {}) => ({ channel: id, read: 0, unread: 0, head: 0, last_ts_ms: 0, ...more });

/** Lets everything run that waits for no timer. */
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((done) => setImmediate(done));
}

let elapsed = 0;

/** Lets this many ms pass. */
export async function pass(ms) {
  elapsed += ms;
  mock.timers.tick(ms);
  await settled();
}

function storage() {
  const kept = new Map();
  return { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) };
}

class Socket {
  constructor() {
    this.bufferedAmount = 0;
    this.sent = [];
    Socket.last = this;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}
}

export class Page {
  /**
   * @param {object} t the test
   * @param {object} api the answers that differ from those of an empty server
   */
  constructor(t, api = {}) {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
    t.after(() => mock.timers.reset());
    t.mock.method(performance, 'now', () => elapsed);
    Object.assign(globalThis, {
      document: { visibilityState: 'visible' },
      location: { protocol: 'http:', host: 'page' },
      localStorage: storage(),
      sessionStorage: storage(),
      WebSocket: Socket,
    });
    this.topics = [];
    this.model = new ChatModel({ token: '', check: async () => 'good' }, (topic) => this.topics.push(topic));
    this.model.api = {
      me: async () => ({ id: ME, name: 'Me', version: 1 }),
      channels: async () => [channel('C1')],
      channel: async () => Promise.reject(new Error('there is no such channel')),
      channelNamed: async () => null,
      unread: async () => ({ channels: [unreadOf('C1')] }),
      users: async (ids) => ids.map((id) => ({ id, name: id, version: 1 })),
      messages: async () => history([]),
      members: async () => ({ items: [], next: null }),
      listeners: async () => ({ users: [], complete: true }),
      ...api,
    };
  }

  /** Starts the page; its socket is open, and nothing is answered on it. */
  async start() {
    await this.model.start();
    this.hello();
  }

  hello() {
    this.frame(HELLO);
  }

  /** The server says this. */
  frame(frame) {
    Socket.last.onmessage({ data: JSON.stringify(frame) });
  }

  /** What the page wrote, of these types or of all, and nobody took yet. */
  written(...types) {
    const isAsked = (one) => types.length === 0 || types.includes(one.type);
    const { sent } = Socket.last;
    Socket.last.sent = sent.filter((one) => !isAsked(one));
    return sent.filter(isAsked);
  }

  /** Answers all joins that were asked for. */
  async joined(reply = {}) {
    for (const { id, channel: joined } of this.written('join')) {
      this.frame({ reply_to: id, ok: true, channel: joined, head: 0, recovered: true, ...reply });
    }
    await settled();
  }

  /** The connection ends and another one opens. */
  async reconnect() {
    Socket.last.onclose({ code: 1012 });
    await settled();
    this.model.connection.tryNow();
    this.hello();
    await settled();
  }

  /** The person looks elsewhere, or at the page again. */
  look(visible) {
    document.visibilityState = visible ? 'visible' : 'hidden';
    this.model.setVisible(visible);
  }

  /** The channel as the page knows it. */
  channel(id = 'C1') {
    return this.model.channels.get(id);
  }
}
