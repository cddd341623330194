// A channel of the page, and records as they go into its timeline.

import { Timeline } from './timeline.js';

/** Names that an address below /ui means otherwise; such a channel goes by its id. */
const TAKEN = ['dashboard', 'sign-in', '.', '..'];

/** A channel of the page. @returns {object} */
export const place = (channel) => ({
  ...channel,
  timeline: new Timeline(),
  /** The head of the last join that could not go on from a cursor, 0 where nobody knew it; null while
   * none was answered. */
  joinedAt: null,
  loading: false,
  loadError: null,
  loadTimer: 0,
  /** As the server counts it, and what came since. */
  read: 0,
  unread: 0,
  /** The head at which the server counted: a record through here is in `unread` already. */
  countedThrough: 0,
  lastMs: channel.created_ms,
  /** The line "new" stands above what is above this; null for none. */
  newSince: null,
  /** The first of them, and whether there are more. */
  members: null,
  moreMembers: false,
  membersAsked: 0,
  membersTimer: 0,
  here: null,
  /** By user: the furthest of their devices. */
  receipts: new Map(),
  typing: new Map(),
  draft: '',
});

/** Where a channel is, without the query. */
export function pathOf(channel) {
  const byId = channel.kind === 'direct' || TAKEN.includes(channel.name);
  return `/ui/${encodeURIComponent(byId ? channel.id : channel.name)}`;
}

/** A message of a timeline as it would come from history. */
export function recordOf(entry) {
  const reactions = [...entry.reactions].map(([reaction, users]) => ({ reaction, users: [...users] }));
  const { type, seq, user, message_id, text, ts_ms, thread, edited, deleted, replies } = entry;
  const copy = replies ? { ...replies } : undefined;
  const inThread = thread ?? undefined;
  return { type, seq, user, message_id, text, ts_ms, thread: inThread, edited, deleted, reactions, replies: copy };
}

/** A change of one's own as everybody hears it. */
export function changeRecord(change, { seq, user, ts_ms }) {
  const base = { seq, user, ts_ms, target: change.target };
  switch (change.type) {
    case 'edit':
      return { ...base, type: 'message_changed', text: change.text };
    case 'delete':
      return { ...base, type: 'message_deleted' };
    default: {
      const type = change.remove ? 'reaction_removed' : 'reaction_added';
      return { ...base, type, reaction: change.reaction };
    }
  }
}
