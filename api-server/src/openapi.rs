//! The contract in words for machines: the OpenAPI 3.1 document of every operation.
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use hubbub_protocol::{ErrorCode, Seq, limits};
use serde_json::{Map, Value, json};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use crate::{
    call::{Call, answer, call},
    context::Context,
    reply,
    route::{COMMON, Route},
};

mod schemas;

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("openapi.json")
        .and(warp::get())
        .and(call(context, Some(Route::OpenApi)))
        .then(|call: Arc<Call>| answer(call, std::future::ready(Ok(reply::raw(DOCUMENT.clone())))))
        .boxed()
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// The whole document.
fn document() -> Value {
    let mut paths = Map::new();
    for route in Route::ALL {
        let item = paths.entry(route.path()).or_insert_with(|| json!({}));
        item[route.method().as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hubbub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Channels, members, users, history and sending. Live messages come over \
                the WebSocket at /ws. Every error has the same body, `Error`; `code` is for \
                programs, and `retryable` says whether the same request may succeed later. Unknown \
                parameters and fields are ignored.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas::schemas(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    })
}

fn operation(route: Route) -> Value {
    let (summary, description) = words(route);
    let mut operation = json!({
        "operationId": route.name(),
        "summary": summary,
        "description": description,
        "parameters": parameters(route),
        "responses": responses(route),
        "security": if route.needs_token() { json!([{ "token": [] }]) } else { json!([]) },
    });
    if let Some(schema) = request_schema(route) {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(schema) } },
        });
    }
    operation
}

fn words(route: Route) -> (&'static str, &'static str) {
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
            "A page of a channel's records, ascending by seq: the newest without `before`, `after` \
             and `around`, of which one at most is given; the bounds are exclusive. Seqs are \
             increasing and not contiguous. With `at_least` the answer waits up to 2 s until the \
             store has processed that seq; `head` says whether it has.",
        ),
        Route::SendMessage => (
            "Send a message",
            "Answered once the log has it. After `outcome: unknown` (504) it may have been sent: \
             send it again with the same `client_msg_id` and `retry: true`; it will be one message. \
             After `outcome: rejected` it was not sent.",
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
        Route::GetUser => ("Show a user", "By public id."),
        Route::OpenApi => ("This document", "No token is needed."),
    }
}

fn parameters(route: Route) -> Value {
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
        Route::GetChannel | Route::SendMessage => json!([path("channel", "ChannelId")]),
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
            limit(),
        ]),
        Route::ListMembers => json!([path("channel", "ChannelId"), cursor(), limit()]),
        Route::AddMember | Route::RemoveMember => {
            json!([path("channel", "ChannelId"), path("user", "UserIdOrMe")])
        }
        Route::GetUser => json!([path("user", "UserId")]),
        Route::CreateChannel | Route::GetMe | Route::OpenApi => json!([]),
    }
}

fn request_schema(route: Route) -> Option<&'static str> {
    match route {
        Route::CreateChannel => Some("NewChannel"),
        Route::SendMessage => Some("SendMessage"),
        _ => None,
    }
}

/// The status and schema of success.
fn success(route: Route) -> (&'static str, Value) {
    match route {
        Route::ListChannels => ("200", reference("ChannelPage")),
        Route::CreateChannel => ("201", reference("Channel")),
        Route::GetChannel => ("200", reference("Channel")),
        Route::GetMessages => ("200", reference("MessagePage")),
        Route::SendMessage => ("201", reference("MessageReply")),
        Route::ListMembers => ("200", reference("MemberPage")),
        Route::AddMember | Route::RemoveMember => ("200", reference("MembershipReply")),
        Route::GetMe | Route::GetUser => ("200", reference("User")),
        Route::OpenApi => ("200", json!({ "type": "object" })),
    }
}

/// Success, and the errors by status: each names the codes it may have.
fn responses(route: Route) -> Value {
    let (status, schema) = success(route);
    let mut responses = json!({
        status: {
            "description": "Done.",
            "content": { "application/json": { "schema": schema } },
        },
    });
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in route.errors().iter().chain(COMMON) {
        let token = *code != ErrorCode::Unauthorized && *code != ErrorCode::RateLimited;
        if token || route.needs_token() {
            let codes = by_status.entry(code.status()).or_default();
            if !codes.contains(&code.as_str()) {
                codes.push(code.as_str());
            }
        }
    }
    if route == Route::SendMessage {
        // Where the outcome is unknown.
        let codes = by_status.entry(504).or_default();
        codes.push(ErrorCode::LogUnavailable.as_str());
    }
    for (status, codes) in by_status {
        responses[status.to_string()] = json!({
            "description": format!("Failed: {}.", codes.join(", ")),
            "content": { "application/json": { "schema": {
                "allOf": [reference("Error")],
                "properties": { "error": { "properties": { "code": { "enum": codes } } } },
            } } },
        });
    }
    responses
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// serde names all variants when it is given none of them.
    fn every_code() -> BTreeSet<String> {
        let error = serde_json::from_str::<ErrorCode>("\"?\"").expect_err("no code");
        let text = error.to_string();
        let (_, list) = text.split_once("expected one of").expect("a list");
        list.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(target) if name == "$ref" => {
                            into.insert(target.to_owned());
                        }
                        _ => references(value, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_there_and_no_other() {
        let document = document();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("an item").keys().cloned();
                methods.map(move |method| (method, path.clone()))
            })
            .collect();
        let routes: BTreeSet<_> = Route::ALL
            .iter()
            .map(|r| {
                (
                    r.method().as_str().to_ascii_lowercase(),
                    r.path().to_owned(),
                )
            })
            .collect();
        assert_eq!(documented, routes);
    }

    #[test]
    fn every_error_code_is_there() {
        let document = document();
        let listed: BTreeSet<String> =
            document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]
                ["enum"]
                .as_array()
                .expect("codes")
                .iter()
                .map(|code| code.as_str().expect("a string").to_owned())
                .collect();
        assert!(listed.len() > 20, "{listed:?}");
        assert_eq!(listed, every_code());
    }

    #[test]
    fn path_parameters_are_declared() {
        for route in Route::ALL {
            let declared: BTreeSet<String> = parameters(route)
                .as_array()
                .expect("a list")
                .iter()
                .filter(|p| p["in"] == "path")
                .map(|p| format!("{{{}}}", p["name"].as_str().expect("a name")))
                .collect();
            let used: BTreeSet<String> = route
                .path()
                .split('/')
                .filter(|segment| segment.starts_with('{'))
                .map(str::to_owned)
                .collect();
            assert_eq!(declared, used, "{route:?}");
        }
    }

    #[test]
    fn every_reference_has_its_schema() {
        let document = document();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let defined: BTreeSet<_> = schemas
            .keys()
            .map(|name| format!("#/components/schemas/{name}"))
            .collect();
        assert_eq!(used, defined);
    }
}
