//! Who is here: the sockets of a channel on all pods, and whether somebody is there at all.
use std::sync::Arc;

use hubbub_chat::Error;
use hubbub_protocol::{
    ChannelId, UserId,
    http::{Listeners, RoomUser},
};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Call, answer, call},
    channels::{check_name, parse_channel},
    context::Context,
    path::segment,
    reply::{self, Failure},
    route::Route,
    users::parse_user,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("channels" / String / "users")
        .and(warp::get())
        .and(call(context, Some(Route::GetListeners)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), of_channel(call, id)))
        .boxed()
}

pub(crate) fn presence_routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("users" / String / "presence")
        .and(warp::get())
        .and(call(context, Some(Route::GetPresence)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), presence(call, id)))
        .boxed()
}

/// `/{room}/users`. Of the routes it comes last: the others' own words go before a room's name.
pub(crate) fn room_routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!(String / "users")
        .and(warp::get())
        .and(call(context, Some(Route::GetRoomUsers)))
        .then(|room: String, call: Arc<Call>| answer(call.clone(), of_room(call, room)))
        .boxed()
}

/// Members alone see who listens; the membership is looked at again after the pods were asked, so
/// that a removal that was answered meanwhile holds (contract P8).
async fn ask(call: &Call, channel: ChannelId, user: UserId) -> Result<Listeners, Failure> {
    let context = &call.context;
    context.seen_as_member(channel, user).await?;
    let listeners = context.chat.who(&context.asker, channel).await?;
    context.chat.permit(channel, user).await?;
    Ok(listeners)
}

async fn of_channel(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let listeners = ask(&call, parse_channel(&id)?, user).await?;
    reply::json(StatusCode::OK, &listeners)
}

/// The answer is a bare list, so a pod that did not answer cannot be named in it.
async fn of_room(call: Arc<Call>, room: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let name = segment(&room, "room")?;
    check_name(&name)?;
    let found = call.context.store.channel_by_name(&name, user).await?;
    let channel = found
        .filter(|channel| channel.is_member)
        .ok_or(Error::ChannelNotFound)?;
    let listeners = ask(&call, channel.id, user).await?;
    let users: Vec<_> = listeners
        .users
        .into_iter()
        .map(|listener| RoomUser {
            id_socket: listener.socket,
            id_user: listener.user,
        })
        .collect();
    reply::json(StatusCode::OK, &users)
}

/// The directory is open, and so is whether somebody is there.
async fn presence(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let context = &call.context;
    context.take_request(user)?;
    let asked = parse_user(&id)?;
    if context.store.user(asked).await?.is_none() {
        return Err(Error::UserNotFound.into());
    }
    let presence = context.chat.presence(&context.asker, asked).await?;
    reply::json(StatusCode::OK, &presence)
}
