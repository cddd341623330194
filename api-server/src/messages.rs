use std::{sync::Arc, time::Duration};

use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, ErrorBody, ErrorCode, SendMessage, Seq};
use hubbub_store::{Page, Window};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    changes::rejected,
    channels::parse_channel,
    context::Context,
    query::Query,
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

/// Which rows a page has, and with what.
#[derive(Debug, Clone, Copy)]
struct Asked {
    window: Window,
    limit: usize,
    /// Every kind, for audits; else what people read: messages and changes of the membership.
    records: bool,
    /// With what edited messages said before.
    versions: bool,
}

impl Asked {
    fn of(query: &Query) -> Result<Self, ErrorBody> {
        Ok(Self {
            window: query.window()?,
            limit: query.limit()?,
            records: query.flag("records")?,
            versions: query.flag("versions")?,
        })
    }

    async fn page(self, context: &Context, channel: ChannelId) -> Result<Page, Failure> {
        let store = &context.store;
        Ok(if self.records {
            store
                .page_of_records(channel, self.window, self.limit)
                .await?
        } else {
            store.page(channel, self.window, self.limit).await?
        })
    }
}

/// A page of history. The membership that permits it is read last: whatever the page holds was
/// stored before that, so a removal that was answered before a message was sent hides it however
/// slow this request is (contract P8).
async fn get(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let channel = parse_channel(&id)?;
    let asked = Asked::of(&call.query)?;
    let at_least = call.query.seq("at_least")?;
    let context = &call.context;
    context.take_history(user)?;
    context.seen_as_member(channel, user).await?;
    let mut page = asked.page(context, channel).await?;
    if let Some(seq) = at_least
        && page.head < seq
    {
        wait_for(context, channel, seq).await?;
        page = asked.page(context, channel).await?;
    }
    let mut versions = Vec::new();
    if asked.versions {
        let seqs: Vec<Seq> = page.rows.iter().map(|row| row.seq).collect();
        versions = context.store.versions(channel, &seqs).await?;
    }
    context.chat.permit(channel, user).await?;
    if planted(Mutant::M13) {
        skip_bound(&mut page, asked.window);
    }
    Ok(reply::page(&page, versions))
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

/// Sends as the WebSocket's `message` does; with `thread` it is a reply, whose root is looked at.
async fn send(call: Arc<Call>, id: String, body: Body) -> Result<Response, Failure> {
    let sent = async {
        let user = call.user().await?;
        let chat = &call.context.chat;
        // A send's own rate is taken only after the core database was asked, so this one guards it.
        call.context.take_request(user)?;
        let channel = parse_channel(&id)?;
        let body = call.json_body(body).await?;
        let message = SendMessage::decode(channel, &body)?;
        if message.thread.is_some() {
            return Ok(chat.reply(user, message).await?);
        }
        let permit = chat.permit(channel, user).await?;
        Ok::<_, Failure>(chat.post(permit, message)?.wait().await?)
    };
    // What failed after the hand-over to the log says so itself.
    reply::json(StatusCode::CREATED, &sent.await.map_err(rejected)?)
}
