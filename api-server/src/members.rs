use std::sync::Arc;

use hubbub_protocol::{ErrorBody, UserId};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Call, answer, call},
    channels::parse_channel,
    context::Context,
    reply::{self, Failure},
    route::Route,
    users::parse_user,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let list = warp::path!("channels" / String / "members")
        .and(warp::get())
        .and(call(context, Some(Route::ListMembers)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), list(call, id)));
    let add = warp::path!("channels" / String / "members" / String)
        .and(warp::put())
        .and(call(context, Some(Route::AddMember)))
        .then(|id: String, member: String, call: Arc<Call>| {
            answer(call.clone(), add(call, id, member))
        });
    let remove = warp::path!("channels" / String / "members" / String)
        .and(warp::delete())
        .and(call(context, Some(Route::RemoveMember)))
        .then(|id: String, member: String, call: Arc<Call>| {
            answer(call.clone(), remove(call, id, member))
        });
    list.or(add).unify().or(remove).unify().boxed()
}

fn parse_member(text: &str, me: UserId) -> Result<UserId, ErrorBody> {
    if text == "me" {
        Ok(me)
    } else {
        parse_user(text)
    }
}

/// Only members see who is one.
async fn list(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let channel = parse_channel(&id)?;
    let (limit, cursor) = (call.query.limit()?, call.query.cursor()?);
    call.context.seen_as_member(channel, user).await?;
    let page = call.context.store.members(channel, cursor, limit).await?;
    // After the read: a removal that was answered meanwhile holds (contract P8).
    call.context.chat.permit(channel, user).await?;
    reply::json(StatusCode::OK, &page)
}

async fn add(call: Arc<Call>, id: String, member: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let (channel, member) = (parse_channel(&id)?, parse_member(&member, user)?);
    let chat = call.context.chat.clone();
    let reply = call
        .context
        .to_the_end("add a member", async move {
            chat.add_member(user, channel, member).await
        })
        .await?;
    reply::json(StatusCode::OK, &reply)
}

async fn remove(call: Arc<Call>, id: String, member: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let (channel, member) = (parse_channel(&id)?, parse_member(&member, user)?);
    let (chat, asker) = (call.context.chat.clone(), call.context.asker.clone());
    let reply = call
        .context
        .to_the_end("remove a member", async move {
            chat.remove_member(&asker, user, channel, member).await
        })
        .await?;
    reply::json(StatusCode::OK, &reply)
}
