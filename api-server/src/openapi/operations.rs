//! What an operation takes and gives.
use hubbub_protocol::{Seq, limits};
use serde_json::{Value, json};

use super::reference;
use crate::{query::MOST_OFFSET, route::Route};

/// Path and query.
pub(super) fn parameters(route: Route) -> Value {
    let path = |name: &str, schema: &str| json!({ "name": name, "in": "path", "required": true, "schema": reference(schema) });
    let query = |name: &str, schema: Value, description: &str| json!({ "name": name, "in": "query", "schema": schema, "description": description });
    let seq = || json!({ "type": "integer", "minimum": 0, "maximum": Seq::MAX.0 });
    let limit = || {
        let schema = json!({
            "type": "integer", "minimum": 1, "maximum": limits::PAGE_ROWS,
            "default": limits::PAGE_ROWS_DEFAULT,
        });
        query("limit", schema, "Rows on the page.")
    };
    let flag = || json!({ "enum": ["0", "1", "false", "true"], "default": "0" });
    let cursor = || {
        let schema = json!({ "type": "string", "pattern": "^[0-9]{1,19}$" });
        query("cursor", schema, "The `next` of the page before.")
    };
    match route {
        Route::ListChannels => json!([
            query(
                "name",
                json!({ "type": "string", "minLength": 1, "maxLength": limits::CHANNEL_NAME_BYTES }),
                "The exact name of one channel.",
            ),
            cursor(),
            limit(),
        ]),
        Route::GetChannel | Route::SendMessage | Route::GetListeners | Route::GetReceipts => {
            json!([path("channel", "ChannelId")])
        }
        Route::EditMessage | Route::DeleteMessage | Route::GetStatus => {
            json!([path("channel", "ChannelId"), path("seq", "Seq")])
        }
        Route::AddReaction | Route::RemoveReaction => json!([
            path("channel", "ChannelId"),
            path("seq", "Seq"),
            path("reaction", "Reaction"),
        ]),
        Route::GetReplies => json!([
            path("channel", "ChannelId"),
            path("seq", "Seq"),
            query("after", seq(), "Replies above this seq."),
            limit(),
        ]),
        Route::SetMarks => json!([
            path("channel", "ChannelId"),
            query(
                "device",
                json!({ "type": "string", "pattern": "^[0-9A-Za-z._-]{1,64}$" }),
                "The device, where the token names none.",
            ),
        ]),
        Route::GetUsers => json!([{
            "name": "ids", "in": "query", "required": true,
            "schema": {
                "type": "string",
                "pattern": "^U[0-9A-Z]{9,13}(,U[0-9A-Z]{9,13}){0,99}$",
            },
            "description": "User ids with commas.",
        }]),
        Route::GetRoomUsers => json!([path("room", "ChannelName")]),
        Route::GetMessages => json!([
            path("channel", "ChannelId"),
            query("before", seq(), "Records below this seq, the nearest ones."),
            query("after", seq(), "Records above this seq, the nearest ones."),
            query(
                "around",
                seq(),
                "Records on both sides of this seq, and its own."
            ),
            query(
                "at_least",
                seq(),
                "Wait up to 2 s until `head` is at least this."
            ),
            query(
                "records",
                flag(),
                "Every kind of record: edits, deletions, reactions and identities, too."
            ),
            query(
                "versions",
                flag(),
                "With each edited message what it said before."
            ),
            limit(),
        ]),
        Route::ListMembers => json!([path("channel", "ChannelId"), cursor(), limit()]),
        Route::AddMember | Route::RemoveMember => {
            json!([path("channel", "ChannelId"), path("user", "UserIdOrMe")])
        }
        Route::GetUser | Route::ChangeUser | Route::GetPresence => {
            json!([path("user", "UserId")])
        }
        Route::GetEvents => json!([
            query(
                "top",
                json!({
                    "type": "integer", "minimum": 1, "maximum": limits::DASHBOARD_ROWS,
                    "default": limits::DASHBOARD_ROWS_DEFAULT,
                }),
                "Rows of channels: those with most connections.",
            ),
            query(
                "channel",
                reference("ChannelId"),
                "A channel of the caller: who listens, and its records as they pass.",
            ),
            {
                "name": "Last-Event-ID", "in": "header", "schema": { "type": "string" },
                "description": "The id of the last event that came.",
            },
        ]),
        Route::GetConnections => json!([
            query(
                "offset",
                json!({ "type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0 }),
                "Rows that are passed over.",
            ),
            query(
                "name",
                json!({ "type": "string", "maxLength": limits::CHANNEL_NAME_BYTES }),
                "How the channel's name begins, whatever its case.",
            ),
            limit(),
        ]),
        Route::CreateChannel
        | Route::OpenDirect
        | Route::GetUnread
        | Route::GetMe
        | Route::ChangeMe
        | Route::GetSignIn
        | Route::SignIn
        | Route::OpenApi
        | Route::Ui => json!([]),
    }
}

/// The body that a request must have, or (`false`) may have.
pub(super) fn request_schema(route: Route) -> Option<(&'static str, bool)> {
    match route {
        Route::CreateChannel => Some(("NewChannel", true)),
        Route::SendMessage => Some(("SendMessage", true)),
        Route::EditMessage => Some(("EditMessage", true)),
        Route::DeleteMessage | Route::AddReaction | Route::RemoveReaction => {
            Some(("ChangeOptions", false))
        }
        Route::SetMarks => Some(("Mark", true)),
        Route::OpenDirect => Some(("NewDirect", true)),
        Route::ChangeMe | Route::ChangeUser => Some(("IdentityPatch", true)),
        Route::SignIn => Some(("SignIn", true)),
        _ => None,
    }
}

/// The status and schema of success.
pub(super) fn success(route: Route) -> (&'static str, Value) {
    match route {
        Route::ListChannels => ("200", reference("ChannelPage")),
        Route::CreateChannel => ("201", reference("Channel")),
        Route::GetChannel => ("200", reference("Channel")),
        Route::GetMessages => ("200", reference("MessagePage")),
        Route::SendMessage => ("201", reference("MessageReply")),
        Route::EditMessage | Route::DeleteMessage | Route::AddReaction | Route::RemoveReaction => {
            ("200", reference("MessageReply"))
        }
        Route::GetReplies => ("200", reference("ThreadPage")),
        Route::GetStatus => ("200", reference("MessageStatus")),
        Route::GetListeners => ("200", reference("Listeners")),
        Route::GetRoomUsers => ("200", reference("RoomUsers")),
        Route::GetReceipts => ("200", reference("Receipts")),
        Route::SetMarks => ("200", reference("MarkReply")),
        Route::OpenDirect => ("200", reference("Direct")),
        Route::GetUnread => ("200", reference("Unread")),
        Route::GetUsers => ("200", reference("Users")),
        Route::ChangeMe | Route::ChangeUser => ("200", reference("IdentityReply")),
        Route::GetPresence => ("200", reference("Presence")),
        Route::ListMembers => ("200", reference("MemberPage")),
        Route::AddMember | Route::RemoveMember => ("200", reference("MembershipReply")),
        Route::GetMe | Route::GetUser => ("200", reference("User")),
        Route::GetEvents => ("200", reference("DashboardSnapshot")),
        Route::GetConnections => ("200", reference("ConnectionsPage")),
        Route::GetSignIn => ("200", reference("ExampleUsers")),
        Route::SignIn => ("200", reference("SignedIn")),
        Route::OpenApi | Route::Ui => ("200", json!({ "type": "object" })),
    }
}
