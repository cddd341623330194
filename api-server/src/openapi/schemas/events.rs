//! The dashboard.
use serde_json::{Value, json};

use super::{object, reference};

pub(super) fn schemas() -> Value {
    let list = |items: Value| json!({ "type": "array", "items": items });
    let count = |what: &str| json!({ "type": "integer", "minimum": 0, "description": what });
    let rate = || {
        json!({
            "type": "number", "minimum": 0,
            "description": "What the log acknowledged to sockets, a second, over the last five.",
        })
    };
    let pods = || list(json!({ "type": "string" }));
    let complete = || {
        json!({
            "type": "boolean",
            "description": "Whether every pod with a lease has told and is heard.",
        })
    };
    json!({
        "ChannelRow": object(
            &["channel", "name", "kind", "connections", "messages_per_s"],
            json!({
                "channel": { "anyOf": [reference("ChannelId"), { "enum": ["private", "direct"] }] },
                "name": { "type": ["string", "null"] },
                "kind": { "enum": ["public", "private", "direct"] },
                "connections": count("Sockets that listen to it, on all pods."),
                "messages_per_s": rate(),
                "channels": count("How many channels were put together in this row."),
            }),
        ),
        "DashboardSnapshot": object(
            &["at_ms", "complete", "missing", "totals", "pods", "channels", "more"],
            json!({
                "at_ms": { "type": "integer" },
                "complete": complete(),
                "missing": pods(),
                "totals": object(
                    &["pods", "sockets", "channels", "messages_per_s"],
                    json!({
                        "pods": count("Pods."),
                        "sockets": count("Sockets on all of them."),
                        "channels": count("Channels that somebody listens to."),
                        "messages_per_s": rate(),
                    }),
                ),
                "pods": list(object(
                    &["pod", "region", "sockets", "channels", "messages_per_s", "state"],
                    json!({
                        "pod": { "type": "string" },
                        "region": { "type": "string" },
                        "sockets": count("Its sockets."),
                        "channels": count("Channels that somebody listens to there."),
                        "messages_per_s": rate(),
                        "state": { "enum": ["reporting", "silent"] },
                    }),
                )),
                "more_pods": count("Pods that are not shown."),
                "channels": list(reference("ChannelRow")),
                "more": count("Channels that the caller may see and that are not among the rows."),
            }),
        ),
        "ConnectionsPage": object(
            &["items", "total", "complete", "missing"],
            json!({
                "items": list(reference("ChannelRow")),
                "total": count("Rows on all pages."),
                "complete": complete(),
                "missing": pods(),
            }),
        ),
    })
}
