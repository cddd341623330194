// The WebSocket around the session: opens it, keeps it alive, comes back. Its times are those of
// `performance.now()`: a clock that is set back would end pings, marks and retries for as long.

import { Pause, reconnects } from './session.js';

/** From the first byte to the `hello`, in ms. */
const OPEN_MS = 10_000;
/** What may wait in the browser for the network before nothing more is written, in bytes. */
const BUFFER_BYTES = 1 << 20;
const LOOK_AGAIN_MS = 50;
/** As the browser says it when there was no close frame. */
const LOST = 1006;

/**
 * @typedef {{state: 'connecting'}
 *   | {state: 'open', pod: string}
 *   | {state: 'waiting', until: number, code: number, restart: boolean}
 *   | {state: 'stopped', code: number}} ConnectionState `until` by `performance.now()`
 */

export class Connection {
  /**
   * @param {object} parts
   * @param {string} parts.url `ws://host/ws?device=…`
   * @param {import('./session.js').Session} parts.session
   * @param {() => string} parts.token the token of the next attempt
   * @param {() => Promise<'good'|'bad'|'unknown'>} parts.checkToken asks whether the token is still
   *   taken, and for a fresh one if not; 'bad' when there is none to be had. Browsers do not tell
   *   why a handshake failed.
   * @param {(output: object) => void} parts.onOutput what the session decided
   * @param {(state: ConnectionState) => void} parts.onState
   */
  constructor({ url, session, token, checkToken, onOutput, onState }) {
    this.url = url;
    this.session = session;
    this.token = token;
    this.checkToken = checkToken;
    this.onOutput = onOutput;
    this.onState = onState;
    this.pause = new Pause();
    /** @type {WebSocket|null} */
    this.socket = null;
    this.timer = 0;
    this.openedAt = 0;
    this.stopped = true;
  }

  start() {
    this.stopped = false;
    this.#connect();
  }

  /** Ends for good. */
  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    socket?.close(1000);
    if (this.session.isConnected()) this.session.disconnected(performance.now());
  }

  /** Tries now what would be tried later. */
  tryNow() {
    if (this.stopped || this.socket) return;
    clearTimeout(this.timer);
    this.#connect();
  }

  /** Writes what the session wants written. To be called after every call of the session. */
  pump() {
    const { socket, session } = this;
    this.#drain();
    if (!socket || !session.isConnected()) return;
    const now = performance.now();
    if (now >= session.deadAt()) {
      this.#lost(socket, LOST);
      return;
    }
    session.tick(now);
    let full = false;
    for (;;) {
      full = socket.bufferedAmount > BUFFER_BYTES;
      const frame = full ? null : session.nextFrame(now);
      if (frame === null) break;
      socket.send(frame);
    }
    this.#drain();
    clearTimeout(this.timer);
    const due = full ? now + LOOK_AGAIN_MS : session.nextDue(now);
    if (due < Infinity) this.timer = setTimeout(() => this.pump(), Math.max(due - now, 1));
  }

  #drain() {
    const { outputs } = this.session;
    while (outputs.length > 0) this.onOutput(outputs.shift());
  }

  #connect() {
    this.onState({ state: 'connecting' });
    let socket;
    try {
      socket = new WebSocket(this.url, ['hubbub.v1', `bearer.${this.token()}`]);
    } catch {
      // The token has characters that no header may have.
      this.#stopWith(4401);
      return;
    }
    this.socket = socket;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#lost(socket, LOST), OPEN_MS);
    socket.onmessage = ({ data }) => this.#onMessage(socket, data);
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  #onMessage(socket, data) {
    if (this.socket !== socket) return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    const now = performance.now();
    if (this.session.isConnected()) {
      this.session.onFrame(frame, now);
    } else if (frame.type === 'hello') {
      this.openedAt = now;
      this.session.connected(frame, now);
      this.onState({ state: 'open', pod: frame.pod });
    }
    this.pump();
  }

  /** This connection is over: told so by the browser, or given up. */
  async #lost(socket, code) {
    if (this.socket !== socket) return;
    this.socket = null;
    clearTimeout(this.timer);
    socket.onmessage = null;
    socket.onclose = null;
    // A close that nobody waits for: without a code it is the browser's to end it.
    socket.close();
    const { session } = this;
    const wasOpen = session.isConnected();
    const restart = session.goodbye !== null;
    if (wasOpen) session.disconnected(performance.now());
    this.#drain();
    if (this.stopped) return;
    if (!reconnects(code)) {
      this.#stopWith(code);
      return;
    }
    const healthyMs = wasOpen ? performance.now() - this.openedAt : 0;
    const delay = this.pause.after({ code, session, healthyMs });
    const until = performance.now() + delay;
    this.onState({ state: 'waiting', until, code, restart });
    if (code === 4401 || !wasOpen) {
      const token = await this.checkToken();
      if (this.stopped || this.socket) return;
      if (token === 'bad') {
        this.#stopWith(4401);
        return;
      }
    }
    this.timer = setTimeout(() => this.tryNow(), Math.max(until - performance.now(), 0));
  }

  #stopWith(code) {
    this.stopped = true;
    this.socket = null;
    this.onState({ state: 'stopped', code });
  }
}
