use std::sync::Arc;

use hubbub_chat::Error;
use hubbub_protocol::Seq;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use crate::{
    call::{Call, answer, call},
    channels::parse_channel,
    context::Context,
    path::parse_seq,
    reply::{self, Failure},
    route::Route,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("channels" / String / "messages" / String / "replies")
        .and(warp::get())
        .and(call(context, Some(Route::GetReplies)))
        .then(|id: String, seq: String, call: Arc<Call>| answer(call.clone(), get(call, id, seq)))
        .boxed()
}

/// A page of a thread with its root, which may have been deleted. A message without replies is a
/// thread of none.
async fn get(call: Arc<Call>, id: String, root: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let (channel, root) = (parse_channel(&id)?, parse_seq(&root, 1)?);
    let (limit, after) = (call.query.limit()?, call.query.seq("after")?);
    let context = &call.context;
    context.take_history(user)?;
    context.seen_as_member(channel, user).await?;
    let target = context.store.target(channel, root).await?;
    if target.message.is_none() {
        return Err(Error::MessageNotFound.into());
    }
    let row = context.store.rows(channel, &[root]).await?;
    let row = row.into_iter().next().ok_or(Error::MessageNotFound)?;
    let after = after.unwrap_or(Seq::ZERO);
    let page = context.store.replies(channel, root, after, limit).await?;
    // After the read: a removal that was answered meanwhile holds (contract P8).
    context.chat.permit(channel, user).await?;
    Ok(reply::thread(&row, &page))
}
