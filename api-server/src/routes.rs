use std::{convert::Infallible, sync::Arc};

use hubbub_protocol::{ErrorBody, ErrorCode};
use warp::{
    Filter, Rejection,
    filters::BoxedFilter,
    http::{
        HeaderValue, Method, StatusCode,
        header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN},
    },
    path::{FullPath, Peek},
    reply::Response,
};

use crate::{
    call::{Call, answer, call},
    changes, channels,
    context::Context,
    direct, events, members, messages, openapi, origin, receipts,
    reply::{self, Failure},
    route::methods_at,
    threads, ui, users, who,
};

/// The whole API.
pub(crate) fn routes(
    context: &Arc<Context>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    // History and sending come first: they are what is asked most.
    let of_channels = messages::routes(context)
        .or(channels::routes(context))
        .unify()
        .or(members::routes(context))
        .unify()
        .or(changes::routes(context))
        .unify()
        .or(threads::routes(context))
        .unify()
        .or(receipts::routes(context))
        .unify()
        .or(who::routes(context))
        .unify();
    let of_users = users::routes(context)
        .or(who::presence_routes(context))
        .unify();
    under("channels", of_channels)
        .or(under("users", of_users))
        .unify()
        .or(receipts::unread_routes(context))
        .unify()
        .or(direct::routes(context))
        .unify()
        .or(under("api", events::routes(context)))
        .unify()
        .or(openapi::routes(context))
        .unify()
        .or(under("ui", ui::routes(context)))
        .unify()
        .or(who::room_routes(context))
        .unify()
        // Takes everything, so that warp's own rejections, which are no JSON, never show.
        .or(nowhere(context))
        .unify()
}

/// Routes whose addresses all begin with this segment: one look instead of one for each of them
/// where an address does not.
fn under(
    first: &'static str,
    routes: impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    warp::path::peek()
        .and_then(move |path: Peek| {
            let here = path.segments().next() == Some(first);
            std::future::ready(if here {
                Ok(())
            } else {
                Err(warp::reject::not_found())
            })
        })
        .untuple_one()
        .and(routes)
        .boxed()
}

/// Whatever no operation took: preflights, wrong methods, unknown addresses.
fn nowhere(
    context: &Arc<Context>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    warp::method()
        .and(warp::path::full())
        .and(call(context, None))
        .then(|method: Method, path: FullPath, call: Arc<Call>| {
            let handled = std::future::ready(no_operation(&call, &method, path.as_str()));
            answer(call, handled)
        })
}

fn no_operation(call: &Call, method: &Method, path: &str) -> Result<Response, Failure> {
    let methods = methods_at(path);
    if methods.is_empty() {
        return Err(ErrorBody::new(ErrorCode::NotFound, "no such address").into());
    }
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    let allow =
        HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("GET"));
    let asks = call.headers.contains_key(ORIGIN)
        && call.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if method == Method::OPTIONS && asks {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        origin::preflight(response.headers_mut(), allow);
        return Ok(response);
    }
    let message = format!("this address takes {}", names.join(" and "));
    let mut response = reply::error(ErrorBody::new(ErrorCode::MethodNotAllowed, message));
    response.headers_mut().insert(ALLOW, allow);
    Ok(response)
}
