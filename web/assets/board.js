// What the dashboard knows: the events of GET /api/events put together. No I/O, no page.

import { counted } from './dom.js';

/** Seconds that the charts show. */
export const SECONDS = 120;
/** Records of the chosen channel that are kept. */
const RECORDS = 200;

const noTotals = () => ({ pods: 0, sockets: 0, channels: 0, messages_per_s: 0 });

const byConnections = (a, b) =>
  b.connections - a.connections || String(a.channel).localeCompare(String(b.channel));

/** `edge-2` before `edge-10`. */
const byName = (a, b) => a.localeCompare(b, 'en', { numeric: true });

/** Rows of channels that stand for many: of kinds that are not told one by one. */
const isSum = (row) => row.channel === 'private' || row.channel === 'direct';

export class Board {
  constructor() {
    /** Whether a snapshot has come on this connection, and whether one ever has. */
    this.known = false;
    this.everKnown = false;
    this.complete = true;
    this.missing = [];
    this.totals = noTotals();
    this.pods = new Map();
    this.channels = new Map();
    this.more = 0;
    this.morePods = 0;
    /** One point a second: `{at, sockets, messages_per_s}`, or null where nothing was known. */
    this.points = [];
    this.choose(null);
  }

  /** Another channel is looked at, or none. */
  choose(channel) {
    this.chosen = channel;
    this.live = null;
    this.records = [];
    this.missed = false;
    this.left = false;
  }

  /** The stream is gone: what is on screen is old. */
  disconnected() {
    this.known = false;
  }

  /** @param {{type: string, data: object}} event */
  apply({ type, data }) {
    switch (type) {
      case 'snapshot':
        this.pods = new Map((data.pods ?? []).map((row) => [row.pod, row]));
        this.channels = new Map((data.channels ?? []).map((row) => [row.channel, row]));
        this.#whole(data);
        break;
      case 'change':
        for (const row of data.pods ?? []) this.pods.set(row.pod, row);
        for (const pod of data.pods_gone ?? []) this.pods.delete(pod);
        for (const row of data.channels ?? []) this.channels.set(row.channel, row);
        for (const channel of data.channels_gone ?? []) this.channels.delete(channel);
        this.#whole(data);
        break;
      case 'live':
        if (data.channel === this.chosen) this.live = data;
        break;
      case 'record':
        if (data.channel === this.chosen) this.#record(data);
        break;
      case 'missed':
        if (data.channel === this.chosen) this.missed = true;
        break;
      case 'left':
        if (data.channel === this.chosen) Object.assign(this, { left: true, live: null });
        break;
      default: // of a newer server
    }
  }

  #whole(data) {
    this.known = true;
    this.everKnown = true;
    this.complete = data.complete ?? true;
    this.missing = data.missing ?? [];
    this.totals = { ...noTotals(), ...data.totals };
    this.more = data.more ?? 0;
    this.morePods = data.more_pods ?? 0;
  }

  #record(record) {
    // The same one comes again after a reconnect.
    if (this.records.some((one) => one.seq === record.seq)) return;
    this.records.push(record);
    if (this.records.length > RECORDS) this.records.splice(0, this.records.length - RECORDS);
  }

  /** Notes how it stands, once a second. */
  sample(now) {
    const { sockets, messages_per_s } = this.totals;
    this.points.push({ at: now, values: this.known ? { sockets, messages_per_s } : null });
    const first = this.points.findIndex((point) => now - point.at <= SECONDS * 1_000);
    this.points.splice(0, first);
  }

  /**
   * A line for a chart: runs of points, broken where nothing was known. `x` is from 0 (two minutes
   * ago) to 1 (now).
   * @param {'sockets'|'messages_per_s'} name
   */
  line(name, now) {
    const runs = [];
    let run = null;
    for (const { at, values } of this.points) {
      if (values === null) {
        run = null;
        continue;
      }
      if (!run) runs.push((run = []));
      run.push({ x: 1 - (now - at) / (SECONDS * 1_000), y: values[name] });
    }
    return runs;
  }

  /** By name: a load balancer keeps them so even that by sockets they would change places all the time. */
  podRows() {
    return [...this.pods.values()].sort((a, b) => byName(a.pod, b.pod));
  }

  /** Channels by connections, without the sums. */
  channelRows() {
    return [...this.channels.values()].filter((row) => !isSum(row)).sort(byConnections);
  }

  /** The rows that stand for all private channels of others, and for all direct ones. */
  sumRows() {
    return [...this.channels.values()].filter(isSum).sort(byConnections);
  }
}

/** Where a person's sockets are: `edge-1 ×3, edge-2`. */
export function podsText(pods) {
  const counts = new Map();
  for (const pod of pods) counts.set(pod, (counts.get(pod) ?? 0) + 1);
  const rows = [...counts].sort(([a], [b]) => byName(a, b));
  return rows.map(([pod, count]) => (count > 1 ? `${pod} ×${count}` : pod)).join(', ');
}

/** How many listen to the chosen channel, and which pods have not said. */
export function listenText({ listeners, more, complete, missing }) {
  const count = listeners.length + (more ?? 0);
  const sockets = `${counted(count, 'socket')} ${count === 1 ? 'listens' : 'listen'} now.`;
  return complete ? sockets : `${sockets} No answer from ${missing.join(', ')}.`;
}

/** The end of a scale that holds `most`: 1, 2 or 5 times a power of ten. */
export function niceTop(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((n) => n * power).find((top) => top >= most - 1e-9);
}
