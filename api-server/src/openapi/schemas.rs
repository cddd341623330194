use hubbub_protocol::{Seq, limits};
use serde_json::{Value, json};

use super::reference;

mod events;
mod people;
mod records;

/// Every code; a test compares the list with the type.
const CODES: [&str; 26] = [
    "invalid_json",
    "unknown_type",
    "missing_field",
    "invalid_field",
    "text_too_long",
    "unauthorized",
    "forbidden",
    "channel_not_found",
    "user_not_found",
    "message_not_found",
    "not_stored_yet",
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

/// All schemas by name.
pub(super) fn schemas() -> Value {
    let mut all = basic();
    for more in [records::schemas(), people::schemas(), events::schemas()] {
        let (Value::Object(all), Value::Object(more)) = (&mut all, more) else {
            unreachable!("schemas are an object");
        };
        all.extend(more);
    }
    all
}

fn basic() -> Value {
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
                "with": reference("UserId"),
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
                "status": { "type": "string" },
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
