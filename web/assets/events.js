// Server-sent events (WHATWG HTML, 9.2) over fetch: EventSource cannot send a token in a header.

import { Backoff } from './backoff.js';

/** A server that is there says something at least every 10 s; so long without it is too long, in ms. */
const SILENCE_MS = 25_000;

/** Takes the stream as text, in whatever pieces it comes, and gives its events. */
export class EventParser {
  constructor() {
    this.rest = '';
    this.data = [];
    this.type = '';
    this.id = null;
    this.retryMs = null;
  }

  /** @param {string} text @returns {{type: string, id: string|null, data: string}[]} */
  push(text) {
    const events = [];
    // A line may end in CR, and its LF come with the next piece.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?=[^])/);
    this.rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (this.data.length > 0) {
          events.push({ type: this.type || 'message', id: this.id, data: this.data.join('\n') });
        }
        this.data = [];
        this.type = '';
      } else {
        this.#field(line);
      }
    }
    return events;
  }

  #field(line) {
    const at = line.indexOf(':');
    // A line that begins with a colon is a comment: a sign of life.
    if (at === 0) return;
    const name = at === -1 ? line : line.slice(0, at);
    const value = at === -1 ? '' : line.slice(at + 1).replace(/^ /, '');
    if (name === 'data') this.data.push(value);
    else if (name === 'event') this.type = value;
    else if (name === 'id' && !value.includes('\0')) this.id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
  }
}

/**
 * @typedef {{state: 'connecting'} | {state: 'open'} | {state: 'waiting', until: number, reason: string}
 *   | {state: 'refused', status: number, code: string, message: string}} StreamState
 */

export class EventStream {
  /**
   * @param {object} parts
   * @param {() => string} parts.path
   * @param {() => string} parts.token
   * @param {() => Promise<'good'|'bad'|'unknown'>} parts.checkToken
   * @param {(event: {type: string, data: object}) => void} parts.onEvent
   * @param {(state: StreamState) => void} parts.onState
   */
  constructor({ path, token, checkToken, onEvent, onState }) {
    Object.assign(this, { path, token, checkToken, onEvent, onState });
    this.backoff = new Backoff(500, 15_000);
    this.lastId = null;
    this.abort = null;
    this.timer = 0;
    /** Which opening it is: what an earlier one says is not heard any more. */
    this.turn = 0;
  }

  /** Opens the stream, anew if it is open: its address may have changed. */
  open() {
    this.close();
    this.turn += 1;
    this.#run(this.turn);
  }

  close() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = null;
  }

  async #run(turn) {
    this.onState({ state: 'connecting' });
    let ended = { reason: 'the stream ended', afterMs: 0 };
    try {
      ended = await this.#read(turn);
    } catch (error) {
      if (error.name !== 'AbortError') ended.reason = error.message;
      else ended.reason = 'the server was silent';
    }
    if (turn !== this.turn || ended.refused) return;
    const delay = this.backoff.next(Math.random, ended.afterMs);
    this.onState({ state: 'waiting', until: Date.now() + delay, reason: ended.reason });
    this.timer = setTimeout(() => turn === this.turn && this.#run(turn), delay);
  }

  /** Reads one connection to its end; gives what to do then. */
  async #read(turn) {
    const abort = new AbortController();
    this.abort = abort;
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    try {
      const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${this.token()}` };
      if (this.lastId !== null) headers['Last-Event-ID'] = this.lastId;
      const response = await fetch(this.path(), {
        headers,
        cache: 'no-store',
        credentials: 'omit',
        signal: abort.signal,
      });
      if (!response.ok) return await this.#refused(response, turn);
      this.onState({ state: 'open' });
      return await this.#events(response.body, turn, alive);
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  }

  async #events(body, turn, alive) {
    const parser = new EventParser();
    let afterMs = 0;
    // Not `for await`: not every browser can walk over a stream.
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value: text } = await reader.read();
      if (done) break;
      if (turn !== this.turn) return { reason: 'closed', afterMs };
      alive();
      for (const event of parser.push(text)) {
        this.backoff.reset();
        if (event.id !== null) this.lastId = event.id;
        const data = JSON.parse(event.data);
        if (event.type === 'goodbye') afterMs = data.reconnect_after_ms ?? 0;
        else this.onEvent({ type: event.type, data });
      }
    }
    return { reason: 'the server ended it', afterMs: Math.max(afterMs, parser.retryMs ?? 0) };
  }

  async #refused(response, turn) {
    let error = {};
    try {
      error = (await response.json()).error ?? {};
    } catch {
      // A proxy's answer: its status says enough.
    }
    const { code = 'internal', message = `status ${response.status}`, retry_after_ms = 0 } = error;
    if (response.status === 401 && (await this.checkToken()) !== 'bad') {
      return { reason: message, afterMs: 0 };
    }
    if (response.status >= 500 || response.status === 429) {
      return { reason: message, afterMs: retry_after_ms };
    }
    if (turn === this.turn) {
      this.onState({ state: 'refused', status: response.status, code, message });
    }
    return { reason: message, afterMs: 0, refused: true };
  }
}
