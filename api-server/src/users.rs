use std::sync::Arc;

use hubbub_chat::Error;
use hubbub_protocol::{ErrorBody, ErrorCode, UserId};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Call, answer, call},
    context::Context,
    reply::{self, Failure},
    route::Route,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let me = warp::path!("users" / "me")
        .and(warp::get())
        .and(call(context, Some(Route::GetMe)))
        .then(|call: Arc<Call>| answer(call.clone(), get_me(call)));
    let user = warp::path!("users" / String)
        .and(warp::get())
        .and(call(context, Some(Route::GetUser)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), get_user(call, id)));
    me.or(user).unify().boxed()
}

/// A user's id in a path.
pub(crate) fn parse_user(text: &str) -> Result<UserId, ErrorBody> {
    text.parse().map_err(|_| {
        ErrorBody::new(
            ErrorCode::InvalidField,
            "user must be a user id such as \"U000000001\"",
        )
        .field("user")
    })
}

async fn get_me(call: Arc<Call>) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    show(&call, user).await
}

async fn get_user(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    show(&call, parse_user(&id)?).await
}

async fn show(call: &Call, user: UserId) -> Result<Response, Failure> {
    match call.context.store.user(user).await? {
        Some(user) => reply::json(StatusCode::OK, &user),
        None => Err(Error::UserNotFound.into()),
    }
}
