use std::{sync::Arc, time::Duration};

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, ErrorBody, ErrorCode, Outcome, SendMessage, Seq};
use hubbub_store::{Page, Window};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    channels::parse_channel,
    context::Context,
    reply::{self, Failure},
    route::Route,
};

/// How long `at_least` waits.
const AT_LEAST: Duration = Duration::from_secs(2);
/// What a request is told that cannot wait because too many do: they are gone by then.
const RETRY_WAIT_MS: u64 = 2_000;

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let get = warp::path!("channels" / String / "messages")
        .and(warp::get())
        .and(call(context, Some(Route::GetMessages)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), get(call, id)));
    let send = warp::path!("channels" / String / "messages")
        .and(warp::post())
        .and(call(context, Some(Route::SendMessage)))
        .and(body())
        .then(|id: String, call: Arc<Call>, body: Body| answer(call.clone(), send(call, id, body)));
    get.or(send).unify().boxed()
}

/// A page of history. The membership that permits it is read last: whatever the page holds was
/// stored before that, so a removal that was answered before a message was sent hides it however
/// slow this request is (contract P8).
async fn get(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let channel = parse_channel(&id)?;
    let (window, limit) = (call.query.window()?, call.query.limit()?);
    let at_least = call.query.seq("at_least")?;
    let context = &call.context;
    context.take_history(user)?;
    context.seen_as_member(channel, user).await?;
    let mut page = context.store.page(channel, window, limit).await?;
    if let Some(seq) = at_least
        && page.head < seq
    {
        wait_for(context, channel, seq).await?;
        page = context.store.page(channel, window, limit).await?;
    }
    context.chat.permit(channel, user).await?;
    if planted(Mutant::M13) {
        skip_bound(&mut page, window);
    }
    Ok(reply::page(&page))
}

/// Planted mistake M13: takes the row at the bound for the bound itself.
fn skip_bound(page: &mut Page, window: Window) {
    match window {
        Window::Before(_) => drop(page.rows.pop()),
        Window::After(_) if !page.rows.is_empty() => drop(page.rows.remove(0)),
        Window::After(_) | Window::Newest | Window::Around(_) => {}
    }
}

/// Waits until the channel's head is at least `seq`, at most 2 s. The page that is read afterwards
/// tells by its head whether it is.
async fn wait_for(context: &Context, channel: ChannelId, seq: Seq) -> Result<(), Failure> {
    let shard = context.store.shard_of(channel);
    let Ok(waiter) = context.waiters.wait_for(shard, channel, seq) else {
        context.metrics.waiters_refused.inc();
        return Err(ErrorBody::new(
            ErrorCode::Overloaded,
            "too many requests wait for at_least; ask again, or without it",
        )
        .retry_after_ms(RETRY_WAIT_MS)
        .into());
    };
    let draining = context.work.soft();
    // Waits for the head, for the deadline, or for the drain, which need not wait for this.
    tokio::select! {
        _ = waiter.wait(AT_LEAST) => {}
        () = draining.cancelled() => {}
    }
    Ok(())
}

/// Sends as the WebSocket's `message` does.
async fn send(call: Arc<Call>, id: String, body: Body) -> Result<Response, Failure> {
    let posted = async {
        let user = call.user().await?;
        // A send's own rate is taken only after the core database was asked, so this one guards it.
        call.context.take_request(user)?;
        let channel = parse_channel(&id)?;
        let body = call.json_body(body).await?;
        let message = SendMessage::decode(channel, &body)?;
        let permit = call.context.chat.permit(channel, user).await?;
        Ok::<_, Failure>(call.context.chat.post(permit, message)?)
    };
    let posting = posted.await.map_err(|mut failure| {
        // Nothing has been handed to the log so far, whatever went wrong.
        failure.body.outcome = Some(Outcome::Rejected);
        failure
    })?;
    reply::json(StatusCode::CREATED, &posting.wait().await?)
}
