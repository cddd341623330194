use hubbub_protocol::{Seq, limits};
use serde_json::{Value, json};

use super::reference;

/// Every code; a test compares the list with the type.
const CODES: [&str; 24] = [
    "invalid_json",
    "unknown_type",
    "missing_field",
    "invalid_field",
    "text_too_long",
    "unauthorized",
    "forbidden",
    "channel_not_found",
    "user_not_found",
    "not_found",
    "method_not_allowed",
    "unsupported_media_type",
    "body_too_large",
    "name_taken",
    "rate_limited",
    "too_many_joins",
    "overloaded",
    "log_unavailable",
    "shard_unavailable",
    "core_unavailable",
    "bus_unavailable",
    "timeout",
    "draining",
    "internal",
];

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list_of(schema: &str) -> Value {
    object(
        &["items", "next"],
        json!({
            "items": { "type": "array", "items": reference(schema) },
            "next": {
                "type": ["string", "null"],
                "description": "Goes into `cursor` for the following page; null on the last one.",
            },
        }),
    )
}

/// A record in history: what all kinds have, and what this one has.
fn record(kind: &str, more: &str, schema: Value) -> Value {
    object(
        &[
            "seq",
            "type",
            "channel",
            "message_id",
            "user",
            more,
            "ts_ms",
        ],
        json!({
            "seq": reference("Seq"),
            "type": { "const": kind },
            "channel": reference("ChannelId"),
            "message_id": { "type": "string", "format": "uuid" },
            "user": reference("UserId"),
            more: schema,
            "ts_ms": {
                "type": "integer",
                "description": "When the log took it; never used for order.",
            },
        }),
    )
}

/// All schemas by name.
pub(super) fn schemas() -> Value {
    let role = json!({ "enum": ["member", "admin"] });
    json!({
        "Seq": {
            "type": "integer", "minimum": 0, "maximum": Seq::MAX.0,
            "description": "Position in a channel: increasing, not contiguous; 0 is before the first record.",
        },
        "ChannelId": { "type": "string", "pattern": "^[CD][0-9A-Z]{9,13}$", "examples": ["C000000005"] },
        "UserId": { "type": "string", "pattern": "^U[0-9A-Z]{9,13}$", "examples": ["U000000001"] },
        "UserIdOrMe": { "type": "string", "pattern": "^(me|U[0-9A-Z]{9,13})$" },
        "Channel": object(
            &["id", "kind", "name", "created_by", "created_ms", "is_member"],
            json!({
                "id": reference("ChannelId"),
                "kind": { "enum": ["public", "private", "direct"] },
                "name": { "type": ["string", "null"] },
                "created_by": reference("UserId"),
                "created_ms": { "type": "integer" },
                "is_member": { "type": "boolean" },
                "role": role,
            }),
        ),
        "NewChannel": object(
            &["name"],
            json!({
                "name": {
                    "type": "string", "minLength": 1, "maxLength": limits::CHANNEL_NAME_BYTES,
                    "description": "1 to 80 bytes of UTF-8, unique, without control characters and \
                        without white space at its ends.",
                },
                "kind": { "enum": ["public", "private", null], "default": "public" },
            }),
        ),
        "ChannelPage": list_of("Channel"),
        "User": object(
            &["id", "name", "picture", "version"],
            json!({
                "id": reference("UserId"),
                "name": { "type": "string" },
                "picture": { "type": ["string", "null"] },
                "version": { "type": "integer", "description": "Counts the changes of this identity." },
            }),
        ),
        "Member": object(
            &["user", "role", "added_seq"],
            json!({ "user": reference("User"), "role": role, "added_seq": reference("Seq") }),
        ),
        "MemberPage": list_of("Member"),
        "MembershipReply": object(
            &["changed", "seq"],
            json!({
                "changed": { "type": "boolean", "description": "Whether this call changed anything." },
                "seq": {
                    "anyOf": [reference("Seq"), { "type": "null" }],
                    "description": "The seq of the record that says so; null if nothing was changed \
                        or the log did not acknowledge the record. The change stands either way.",
                },
            }),
        ),
        "Record": { "oneOf": [
            record("message", "text", json!({ "type": "string" })),
            record("member_joined", "member", reference("UserId")),
            record("member_left", "member", reference("UserId")),
        ] },
        "MessagePage": object(
            &["messages", "has_more", "head"],
            json!({
                "messages": { "type": "array", "items": reference("Record"), "maxItems": limits::PAGE_ROWS },
                "has_more": {
                    "type": "boolean",
                    "description": "Whether more lie beyond the page, in the direction that was asked.",
                },
                "head": reference("Seq"),
            }),
        ),
        "SendMessage": object(
            &["text"],
            json!({
                "text": {
                    "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES,
                    "description": "1 to 16384 bytes of UTF-8, without U+0000.",
                },
                "client_msg_id": {
                    "type": ["string", "null"], "format": "uuid",
                    "description": "Identity of the message: the same id is one message for ever.",
                },
                "retry": { "type": ["boolean", "null"], "default": false },
            }),
        ),
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
        "Error": object(
            &["error"],
            json!({ "error": object(
                &["code", "message", "retryable"],
                json!({
                    "code": { "enum": CODES },
                    "message": { "type": "string", "description": "For people." },
                    "field": { "type": "string", "description": "The field at fault." },
                    "limit": { "type": "integer", "description": "The limit that was broken." },
                    "retryable": { "type": "boolean" },
                    "retry_after_ms": { "type": "integer", "minimum": 0 },
                    "outcome": { "enum": ["rejected", "unknown"] },
                }),
            ) }),
        ),
    })
}
