use crate::route::Route;

/// Summary and description of an operation.
pub(super) fn words(route: Route) -> (&'static str, &'static str) {
    match route {
        Route::ListChannels => (
            "List channels",
            "The caller's channels and the public ones, in the order of their ids. With `name` \
             only the channel of that name, if the caller may see it.",
        ),
        Route::CreateChannel => (
            "Create a channel",
            "The caller becomes its first member and admin.",
        ),
        Route::GetChannel => ("Show a channel", "A public one, or one of the caller's."),
        Route::GetMessages => (
            "Read history",
            "A page of a channel's messages and changes of membership, ascending by seq: the newest \
             without `before`, `after` and `around`, of which one at most is given; the bounds are \
             exclusive. Seqs are increasing and not contiguous. Messages are as they are now: \
             edited, deleted (empty), with their reactions and a summary of their thread; replies \
             are among them and name their `thread`. With `at_least` the answer waits up to 2 s \
             until the store has processed that seq; `head` says whether it has.",
        ),
        Route::SendMessage => (
            "Send a message",
            "Answered once the log has it; with `thread` it is a reply. After `outcome: unknown` (504) it may have been sent: \
             send it again with the same `client_msg_id` and `retry: true`; it will be one message. \
             After `outcome: rejected` it was not sent.",
        ),
        Route::EditMessage => (
            "Edit a message",
            "Its author may, and an admin of the channel. An edit is a record with a seq of its \
             own; of two edits the later seq stands. As for a send: after `outcome: unknown` send \
             it again with the same `client_msg_id` and `retry: true`. A message that is not \
             stored yet is waited for up to 2 s.",
        ),
        Route::DeleteMessage => (
            "Delete a message",
            "Its author may, and an admin of the channel. Nothing that it said can be read any \
             more, its earlier versions included; its place, its thread and its seq stay.",
        ),
        Route::AddReaction => (
            "Give a reaction",
            "Any member may. Given twice it counts once.",
        ),
        Route::RemoveReaction => ("Take a reaction back", "One's own."),
        Route::GetReplies => (
            "Read a thread",
            "The replies to a message, ascending by seq, and apart from them the message itself. \
             For the following page give the last seq as `after`.",
        ),
        Route::GetStatus => (
            "What became of a message",
            "For each device of the members: none (accepted, not stored yet), sent, delivered or \
             read. In a channel of more than 50 members one's own devices alone.",
        ),
        Route::GetListeners => (
            "Who is here",
            "The sockets that listen to the channel on every pod, asked now; members alone may. \
             Pods that did not answer within 300 ms are `missing`.",
        ),
        Route::GetRoomUsers => (
            "Who is in the room",
            "The same by the channel's name, as a bare list.",
        ),
        Route::GetReceipts => (
            "Read the cursors",
            "How far each device of each member came; in a channel of more than 50 members one's \
             own devices alone.",
        ),
        Route::SetMarks => (
            "Move the caller's cursors",
            "Of the token's device, or of `device` where the token names none. Cursors never go \
             back, so the request may be repeated. Answered once the log has the mark; readers see \
             it a moment later.",
        ),
        Route::OpenDirect => (
            "Open a direct channel",
            "The channel of the caller and the other user (or of the caller alone): created by the \
             first call of either side, the same for ever after.",
        ),
        Route::GetUnread => (
            "What is unread",
            "For every channel of the caller: how far it was read on any device, how many messages \
             lie above that, the head, and when it was last written to. Channels whose shard cannot be \
             read now are named in `missing`; only if none can be read the request fails.",
        ),
        Route::ListMembers => ("List members", "Members alone see who is one."),
        Route::AddMember => (
            "Add a member",
            "Everybody may add themself (`me`) to a public channel, any member may add others to \
             it, and only admins add to a private one. Repeatable.",
        ),
        Route::RemoveMember => (
            "Remove a member, or leave",
            "Admins remove others, everybody may leave (`me`). Answered once every edge has \
             confirmed that the member gets nothing more. After 503 `bus_unavailable` the removal \
             stands and is not confirmed: repeat the request. Leaving what one does not belong to \
             is `channel_not_found`, also as the repeat of a leave.",
        ),
        Route::GetMe => ("Show the caller", "The user of the token."),
        Route::ChangeMe | Route::ChangeUser => (
            "Change one's identity",
            "One's own name, picture or status; what is absent stays, an empty picture or status \
             goes. The version counts up, and every channel of the user gets an `identity_change`: \
             `announced` of `channels` have it. At most once in 5 s.",
        ),
        Route::GetUsers => ("Show several users", "Those that exist of up to 100 ids."),
        Route::GetPresence => (
            "Whether a user is there",
            "Active, away or offline: the best of their devices on every pod, asked now.",
        ),
        Route::GetUser => ("Show a user", "By public id."),
        Route::GetEvents => (
            "Watch the dashboard",
            "A stream of Server-Sent Events: `snapshot` (its data has the schema given here), then \
             `change` with the rows that have changed (`pods_gone` and `channels_gone` name those \
             that are gone), at most four a second. With `channel` also `live` (who listens), \
             `record` (the WebSocket's frame of each record as it passes), `missed` (records may \
             have passed unseen: read the history) and `left` (the caller is no member any more). \
             `goodbye` says when to come back. Private channels of others are one row, and so are \
             direct channels. The stream ends when the token expires.",
        ),
        Route::GetConnections => (
            "List channels by connections",
            "A page of the channels that somebody listens to now, of those that the caller may see: \
             those with most connections first.",
        ),
        Route::GetSignIn => (
            "Who may be chosen",
            "The example users, where development sign-in is on; elsewhere there is no such \
             address.",
        ),
        Route::SignIn => (
            "Act as an example user",
            "A token of that user, for whoever asks, where development sign-in is on; elsewhere \
             there is no such address.",
        ),
        Route::OpenApi => ("This document", "No token is needed."),
        Route::Ui => ("The page", "For people."),
    }
}
