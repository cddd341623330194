// Who is at the page. A token lives in this tab's session storage: never in the address, and gone
// with the tab. Where the server's development sign-in is on, the seeded users are there to choose,
// and `?id_user=1` chooses one.

import { ApiError, request } from './api.js';

const TOKEN = 'hubbub.token';
const WHO = 'hubbub.id_user';

/** A fresh token is asked for when this much of the old one is left, in ms. */
const EARLY_MS = 60_000;

/** Names this browser to the server, for each user apart: cursors of what was read are a device's. */
export function deviceOf(user) {
  const name = `hubbub.device.${user}`;
  try {
    let device = localStorage.getItem(name);
    if (!device) {
      device = `web-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
      localStorage.setItem(name, device);
    }
    return device;
  } catch {
    // A browser that stores nothing is a new device each time.
    return `web-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
  }
}

export class Auth {
  constructor() {
    this.token = sessionStorage.getItem(TOKEN) ?? '';
    /** The number of the seeded user, where one was chosen. */
    this.idUser = sessionStorage.getItem(WHO);
    this.expiresMs = Infinity;
    /** The users to choose among; null where development sign-in is off. */
    this.people = null;
  }

  /**
   * Finds out who is here: the address's `id_user`, or what this tab knows. False: ask.
   * @param {URL} address
   */
  async begin(address) {
    try {
      this.people = (await request('GET', '/ui/sign-in')).users;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
    const asked = address.searchParams.get('id_user');
    if (asked !== null && this.people) {
      if (asked !== this.idUser || !this.token) await this.signInAs(asked);
      return true;
    }
    return this.token !== '';
  }

  /** Signs in as a seeded user, by number. */
  async signInAs(idUser) {
    const id = Number(idUser);
    const answer = await request('POST', '/ui/sign-in', { body: { id_user: id } });
    this.expiresMs = answer.expires_ms;
    this.idUser = String(id);
    sessionStorage.setItem(WHO, this.idUser);
    this.useToken(answer.token);
  }

  /** Takes a token that somebody gave us. */
  useToken(token) {
    this.token = token.trim();
    sessionStorage.setItem(TOKEN, this.token);
  }

  /**
   * Whether the server takes the token, after asking for a fresh one where that is possible.
   * @returns {Promise<'good'|'bad'|'unknown'>}
   */
  async check() {
    try {
      if (this.idUser !== null && this.expiresMs - Date.now() < EARLY_MS) {
        await this.signInAs(this.idUser);
      }
      await request('GET', '/users/me', { token: this.token });
      return 'good';
    } catch (error) {
      if (error.status !== 401) return 'unknown';
    }
    if (this.idUser === null || !this.people) return 'bad';
    try {
      await this.signInAs(this.idUser);
      return 'good';
    } catch (error) {
      return error.status >= 400 && error.status < 500 ? 'bad' : 'unknown';
    }
  }

  signOut() {
    this.token = '';
    this.idUser = null;
    sessionStorage.removeItem(TOKEN);
    sessionStorage.removeItem(WHO);
  }
}
