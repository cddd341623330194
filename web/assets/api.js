// The HTTP API (docs/PROTOCOL.md, "HTTP"): every answer, or an ApiError.

/** A request's deadline, in ms: above the server's own. */
const DEADLINE_MS = 15_000;
/** A page of history. */
export const PAGE = 50;
const USERS_AT_ONCE = 100;

export class ApiError extends Error {
  /**
   * @param {number} status 0 when there was no answer
   * @param {{code: string, message: string, retryable?: boolean, outcome?: string}} body
   */
  constructor(status, body) {
    super(body.message);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.code;
    this.retryable = body.retryable ?? false;
    this.retryAfterMs = body.retry_after_ms ?? 0;
    this.outcome = body.outcome;
  }
}

const unreachable = (message) => new ApiError(0, { code: 'unreachable', message, retryable: true });

/**
 * One request; gives the answer's JSON.
 * @param {string} method
 * @param {string} path
 * @param {{token?: string, body?: object}} options
 */
export async function request(method, path, { token, body } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
      cache: 'no-store',
      credentials: 'omit',
    });
  } catch {
    throw unreachable('the server cannot be reached');
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw unreachable(`the server answered ${response.status} without JSON`);
  }
  if (response.ok) return answer;
  const error = answer?.error ?? { code: 'internal', message: `status ${response.status}` };
  throw new ApiError(response.status, error);
}

const segment = encodeURIComponent;

export class Api {
  /** @param {() => string} token */
  constructor(token) {
    this.token = token;
  }

  #call(method, path, body) {
    return request(method, path, { token: this.token(), body });
  }

  me() {
    return this.#call('GET', '/users/me');
  }

  /** @param {{name?: string, status?: string, picture?: string}} patch */
  changeMe(patch) {
    return this.#call('PATCH', '/users/me', patch);
  }

  /** All of them that exist, in any number. */
  async users(ids) {
    const users = [];
    for (let i = 0; i < ids.length; i += USERS_AT_ONCE) {
      const some = ids.slice(i, i + USERS_AT_ONCE).map(segment).join(',');
      users.push(...(await this.#call('GET', `/users?ids=${some}`)).users);
    }
    return users;
  }

  /** The caller's channels and the public ones, oldest first, about `most` at most. */
  async channels(most = 2_000) {
    const all = [];
    let cursor = null;
    do {
      const query = cursor === null ? '' : `&cursor=${segment(cursor)}`;
      const page = await this.#call('GET', `/channels?limit=200${query}`);
      all.push(...page.items);
      cursor = page.next;
    } while (cursor !== null && cursor !== undefined && all.length < most);
    return all;
  }

  channel(id) {
    return this.#call('GET', `/channels/${segment(id)}`);
  }

  /** The channel of this name, or null. */
  async channelNamed(name) {
    const page = await this.#call('GET', `/channels?name=${segment(name)}`);
    return page.items[0] ?? null;
  }

  createChannel(name, kind) {
    return this.#call('POST', '/channels', { name, kind });
  }

  /** The first `most` members; `next` says that there are more. */
  members(channel, most = 200) {
    return this.#call('GET', `/channels/${segment(channel)}/members?limit=${most}`);
  }

  addMember(channel, user) {
    return this.#call('PUT', `/channels/${segment(channel)}/members/${segment(user)}`);
  }

  removeMember(channel, user) {
    return this.#call('DELETE', `/channels/${segment(channel)}/members/${segment(user)}`);
  }

  /** @param {{before?: number, after?: number, around?: number, at_least?: number}} where */
  messages(channel, where = {}) {
    const query = new URLSearchParams({ limit: String(PAGE) });
    for (const [name, value] of Object.entries(where)) query.set(name, String(value));
    return this.#call('GET', `/channels/${segment(channel)}/messages?${query}`);
  }

  replies(channel, root, after) {
    const query = after === undefined ? '' : `&after=${after}`;
    return this.#call(
      'GET',
      `/channels/${segment(channel)}/messages/${root}/replies?limit=200${query}`,
    );
  }

  status(channel, seq) {
    return this.#call('GET', `/channels/${segment(channel)}/messages/${seq}/status`);
  }

  receipts(channel) {
    return this.#call('GET', `/channels/${segment(channel)}/receipts`);
  }

  /** Who listens now, asked of every pod. */
  listeners(channel) {
    return this.#call('GET', `/channels/${segment(channel)}/users`);
  }

  unread() {
    return this.#call('GET', '/unread');
  }

  /** The direct channel with this user. */
  async direct(user) {
    return (await this.#call('POST', '/direct', { user })).channel;
  }

  /** A page of channels by live connections, while the dashboard's stream is open. */
  connections(offset, limit, name) {
    const query = new URLSearchParams({ offset: String(offset), limit: String(limit) });
    if (name) query.set('name', name);
    return this.#call('GET', `/api/connections?${query}`);
  }
}
