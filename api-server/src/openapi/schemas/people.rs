//! Who is here, how far they came, and who they are.
use hubbub_protocol::limits;
use serde_json::{Value, json};

use super::{object, reference};

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

pub(super) fn schemas() -> Value {
    let device = || json!({ "type": "string", "pattern": "^[0-9A-Za-z._-]{1,64}$" });
    let clearing = |most: usize, what: &str| {
        json!({
            "type": ["string", "null"], "maxLength": most,
            "description": format!("{what}; empty for none."),
        })
    };
    let identity = json!({
        "announced": { "type": "integer", "description": "Channels whose log has it." },
        "channels": { "type": "integer", "description": "Channels of the user." },
    });
    json!({
        "ChannelName": { "type": "string", "minLength": 1, "maxLength": limits::CHANNEL_NAME_BYTES },
        "Listeners": object(
            &["users", "complete", "missing"],
            json!({
                "users": list(object(
                    &["socket", "user", "device", "pod"],
                    json!({
                        "socket": { "type": "string" },
                        "user": reference("UserId"),
                        "device": device(),
                        "pod": { "type": "string" },
                    }),
                )),
                "complete": { "type": "boolean", "description": "Whether every pod answered in full." },
                "missing": list(json!({ "type": "string" })),
            }),
        ),
        "RoomUsers": list(object(
            &["id_socket", "id_user"],
            json!({ "id_socket": { "type": "string" }, "id_user": reference("UserId") }),
        )),
        "SignIn": object(
            &["id_user"],
            json!({ "id_user": { "type": "integer", "minimum": 1, "maximum": 10 } }),
        ),
        "SignedIn": object(
            &["token", "user", "expires_ms"],
            json!({
                "token": { "type": "string" },
                "user": reference("UserId"),
                "expires_ms": { "type": "integer" },
            }),
        ),
        "ExampleUsers": object(&["users"], json!({ "users": list(object(
            &["id_user", "user", "name"],
            json!({
                "id_user": { "type": "integer" },
                "user": reference("UserId"),
                "name": { "type": "string" },
            }),
        )) })),
        "NewDirect": object(&["user"], json!({ "user": reference("UserId") })),
        "Direct": object(&["channel"], json!({ "channel": reference("ChannelId") })),
        "Mark": {
            "type": "object", "minProperties": 1,
            "properties": { "delivered": reference("Seq"), "read": reference("Seq") },
        },
        "MarkReply": object(&["channel"], json!({ "channel": reference("ChannelId") })),
        "Receipts": object(&["receipts"], json!({ "receipts": list(object(
            &["user", "device", "delivered", "read"],
            json!({
                "user": reference("UserId"),
                "device": device(),
                "delivered": reference("Seq"),
                "read": reference("Seq"),
            }),
        )) })),
        "MessageStatus": object(&["devices"], json!({ "devices": list(object(
            &["user", "status"],
            json!({
                "user": reference("UserId"),
                "device": device(),
                "status": { "enum": ["none", "sent", "delivered", "read"] },
            }),
        )) })),
        "Unread": object(&["channels"], json!({ "missing": {
            "type": "array", "items": reference("ChannelId"), "minItems": 1,
            "description": "Channels that cannot be counted now.",
        }, "channels": list(object(
            &["channel", "read", "unread", "head", "last_ts_ms"],
            json!({
                "channel": reference("ChannelId"),
                "read": reference("Seq"),
                "unread": { "type": "integer", "minimum": 0 },
                "head": reference("Seq"),
                "last_ts_ms": { "type": "integer" },
            }),
        )) })),
        "Users": object(&["users"], json!({ "users": list(reference("User")) })),
        "IdentityPatch": {
            "type": "object", "minProperties": 1,
            "properties": {
                "name": {
                    "type": ["string", "null"], "minLength": 1, "maxLength": limits::USER_NAME_BYTES,
                },
                "picture": clearing(limits::USER_PICTURE_BYTES, "An https address"),
                "status": clearing(limits::USER_STATUS_BYTES, "What one says of oneself now"),
            },
        },
        "IdentityReply": {
            "allOf": [reference("User"), object(&["announced", "channels"], identity)],
        },
        "Presence": object(
            &["user", "state", "complete"],
            json!({
                "user": reference("UserId"),
                "state": { "enum": ["active", "away", "offline"] },
                "complete": { "type": "boolean", "description": "Whether every pod answered." },
            }),
        ),
    })
}
