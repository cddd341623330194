//! What is in history, and what brings it there.
use hubbub_protocol::limits;
use serde_json::{Value, json};

use super::{object, reference};

/// A record in history: what all kinds have, and what this one has.
fn record(kind: &str, required: &[&str], more: Value) -> Value {
    let mut all = vec!["seq", "type", "channel", "message_id", "user", "ts_ms"];
    all.extend(required);
    let mut properties = json!({
        "seq": reference("Seq"),
        "type": { "const": kind },
        "channel": reference("ChannelId"),
        "message_id": { "type": "string", "format": "uuid" },
        "user": reference("UserId"),
        "ts_ms": {
            "type": "integer",
            "description": "When the log took it; never used for order.",
        },
    });
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
    object(&all, properties)
}

/// A message as it is now.
fn message() -> Value {
    let edited = json!({
        "seq": reference("Seq"), "ts_ms": { "type": "integer" }, "user": reference("UserId"),
        "count": { "type": "integer", "minimum": 0, "maximum": limits::EDITS_PER_MESSAGE },
    });
    let reaction = json!({
        "reaction": reference("Reaction"),
        "users": { "type": "array", "items": reference("UserId"), "minItems": 1 },
    });
    let replies = json!({
        "count": { "type": "integer", "minimum": 1 },
        "last_seq": reference("Seq"),
        "users": {
            "type": "array", "items": reference("UserId"), "maxItems": limits::REPLY_USERS,
        },
    });
    record(
        "message",
        &["text"],
        json!({
            "text": { "type": "string", "description": "Empty if it was deleted." },
            "thread": reference("Seq"),
            "posted_ms": {
                "type": "integer",
                "description": "When it was said where it was imported from.",
            },
            "edited": object(&["seq", "ts_ms", "user"], edited),
            "deleted": { "const": true },
            "reactions": { "type": "array", "items": object(&["reaction", "users"], reaction) },
            "replies": object(&["count", "last_seq", "users"], replies),
            "versions": {
                "type": "array", "items": reference("Version"),
                "maxItems": limits::VERSIONS_PER_MESSAGE,
                "description": "With `versions=1`: what it said before, oldest first; of many the newest.",
            },
        }),
    )
}

pub(super) fn schemas() -> Value {
    let member = || json!({ "member": reference("UserId") });
    let reaction = || json!({ "target": reference("Seq"), "reaction": reference("Reaction") });
    let options = || {
        json!({
            "client_msg_id": {
                "type": ["string", "null"], "format": "uuid",
                "description": "Identity of what is sent: the same id is one for ever.",
            },
            "retry": { "type": ["boolean", "null"], "default": false },
        })
    };
    let with_text = |more: Value| {
        let mut properties = options();
        properties["text"] = json!({
            "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES,
            "description": "1 to 16384 bytes of UTF-8, without U+0000.",
        });
        if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
            properties.extend(more);
        }
        object(&["text"], properties)
    };
    let page = |more: Value| {
        let mut properties = json!({
            "messages": {
                "type": "array", "items": reference("Record"), "maxItems": limits::PAGE_ROWS,
            },
            "has_more": {
                "type": "boolean",
                "description": "Whether more lie beyond the page, in the direction that was asked.",
            },
            "head": reference("Seq"),
        });
        if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
            properties.extend(more);
        }
        properties
    };
    json!({
        "Reaction": {
            "type": "string", "minLength": 1, "maxLength": limits::REACTION_BYTES,
            "description": "An emoji or its name, without white space and control characters.",
            "examples": ["+1"],
        },
        "Record": { "oneOf": [
            message(),
            record("member_joined", &["member"], member()),
            record("member_left", &["member"], member()),
            record("message_changed", &["target", "text"], json!({
                "target": reference("Seq"),
                "text": {
                    "type": "string",
                    "description": "Empty where it is not to be applied: the message was deleted.",
                },
            })),
            record("message_deleted", &["target"], json!({ "target": reference("Seq") })),
            record("reaction_added", &["target", "reaction"], reaction()),
            record("reaction_removed", &["target", "reaction"], reaction()),
            record("identity_change", &["version"], json!({ "version": { "type": "integer" } })),
        ] },
        "Version": object(
            &["seq", "text", "ts_ms", "user"],
            json!({
                "seq": reference("Seq"),
                "text": { "type": "string" },
                "ts_ms": { "type": "integer" },
                "user": reference("UserId"),
            }),
        ),
        "MessagePage": object(&["messages", "has_more", "head"], page(json!({}))),
        "ThreadPage": object(
            &["root", "messages", "has_more", "head"],
            page(json!({ "root": reference("Record") })),
        ),
        "SendMessage": with_text(json!({ "thread": reference("Seq") })),
        "EditMessage": with_text(json!({})),
        "ChangeOptions": object(&[], options()),
        "MessageReply": object(
            &["channel", "message_id", "seq", "ts_ms"],
            json!({
                "channel": reference("ChannelId"),
                "message_id": { "type": "string", "format": "uuid" },
                "seq": {
                    "anyOf": [reference("Seq"), { "type": "null" }],
                    "description": "Null for a resend: history tells which copy was kept.",
                },
                "ts_ms": { "type": "integer" },
                "fence": reference("Seq"),
            }),
        ),
    })
}
