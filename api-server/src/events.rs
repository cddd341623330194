//! The live dashboard: its stream, and pages of its channels.
use std::{convert::Infallible, sync::Arc, time::Duration};

use hubbub_protocol::{ErrorBody, ErrorCode, limits};
use hubbub_service::{OnError, token::valid_until};
use tokio::time::{Instant, sleep};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Call, answer, call},
    channels::parse_channel,
    context::Context,
    dashboard::{Asked, LINGER, Stream, body},
    reply::{self, Failure},
    route::Route,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let events = warp::path!("api" / "events")
        .and(warp::get())
        .and(call(context, Some(Route::GetEvents)))
        .then(|call: Arc<Call>| answer(call.clone(), events(call)));
    let connections = warp::path!("api" / "connections")
        .and(warp::get())
        .and(call(context, Some(Route::GetConnections)))
        .then(|call: Arc<Call>| answer(call.clone(), connections(call)));
    events.or(connections).unify().boxed()
}

async fn events(call: Arc<Call>) -> Result<Response, Failure> {
    let (user, expires_at_s) = call.user_and_expiry().await?;
    let context = &call.context;
    context.take_request(user)?;
    let top = call.query.rows("top", limits::DASHBOARD_ROWS)?;
    let channel = call.query.get("channel")?.map(parse_channel).transpose()?;
    if let Some(channel) = channel {
        context.chat.permit(channel, user).await?;
    }
    let last_event = call.headers.get("last-event-id");
    let last_event = last_event.and_then(|value| value.to_str().ok());
    let left_s = valid_until(expires_at_s).saturating_sub(context.clock.now_s());
    // A token that is good for years ends with the connection.
    let left_s = u64::try_from(left_s).unwrap_or(0).min(86_400);
    let asked = Asked {
        user,
        top: top.unwrap_or(limits::DASHBOARD_ROWS_DEFAULT),
        channel,
        last_event: last_event.map(str::to_owned),
        until: Instant::now() + Duration::from_secs(left_s),
    };
    let viewer = context.dashboard.stream(user)?;
    let (sender, response) = body();
    let stream = Stream::new(context.clone(), viewer, asked, sender);
    context.work.spawn("events", OnError::Log, stream.run());
    Ok(response)
}

/// On a server where nobody has a stream it makes this one watch for a moment: a load balancer may
/// have brought the request here while the stream is elsewhere.
async fn connections(call: Arc<Call>) -> Result<Response, Failure> {
    let user = call.user().await?;
    let context = &call.context;
    context.take_request(user)?;
    let offset = call.query.offset()?;
    let limit = call.query.limit()?;
    let name = call.query.get("name")?.unwrap_or_default();
    if name.len() > limits::CHANNEL_NAME_BYTES {
        let most = limits::CHANNEL_NAME_BYTES;
        let error = ErrorBody::new(
            ErrorCode::InvalidField,
            format!("name must have at most {most} bytes"),
        );
        return Err(error.field("name").limit(most as u64).into());
    }
    let viewer = context.dashboard.glance(user);
    let page = viewer.connections(user, offset, limit, name).await?;
    let stop = context.work.soft();
    context.work.spawn("glance", OnError::Log, async move {
        // Waits for who turns to the next page, or for the drain. Both are cancel-safe.
        tokio::select! {
            () = sleep(LINGER) => {}
            () = stop.cancelled() => {}
        }
        drop(viewer);
        Ok::<_, Infallible>(())
    });
    reply::json(StatusCode::OK, &page)
}
