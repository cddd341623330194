//! The contract in words for machines: the OpenAPI 3.1 document of every operation.
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use hubbub_protocol::ErrorCode;
use serde_json::{Map, Value, json};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use crate::{
    call::{Call, answer, call},
    context::Context,
    reply,
    route::{COMMON, Route},
};

mod operations;
mod schemas;
mod words;

use operations::{parameters, request_schema, success};
use words::words;

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
            "description": "Channels, members, users, history, sending and changing, threads, \
                receipts, presence. What is live comes over the WebSocket at /ws. Every error has the same body, `Error`; `code` is for \
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
    if let Some((schema, required)) = request_schema(route) {
        operation["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": reference(schema) } },
        });
    }
    operation
}

/// Success, and the errors by status: each names the codes it may have.
fn responses(route: Route) -> Value {
    let (status, schema) = success(route);
    let media_type = match route {
        Route::GetEvents => "text/event-stream",
        _ => "application/json",
    };
    let mut responses = json!({
        status: {
            "description": "Done.",
            "content": { media_type: { "schema": schema } },
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
    if route.appends() {
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
