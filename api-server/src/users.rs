use std::sync::Arc;

use hubbub_chat::Error;
use hubbub_protocol::{
    ErrorBody, ErrorCode, UserId,
    http::{IdentityPatch, Users},
    limits,
};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    context::Context,
    fields::Fields,
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
    let list = warp::path!("users")
        .and(warp::get())
        .and(call(context, Some(Route::GetUsers)))
        .then(|call: Arc<Call>| answer(call.clone(), get_users(call)));
    let change_me = warp::path!("users" / "me")
        .and(warp::patch())
        .and(call(context, Some(Route::ChangeMe)))
        .and(body())
        .then(|call: Arc<Call>, body: Body| answer(call.clone(), change(call, None, body)));
    let change_user = warp::path!("users" / String)
        .and(warp::patch())
        .and(call(context, Some(Route::ChangeUser)))
        .and(body())
        .then(|id: String, call: Arc<Call>, body: Body| {
            answer(call.clone(), change(call, Some(id), body))
        });
    me.or(user)
        .unify()
        .or(list)
        .unify()
        .or(change_me)
        .unify()
        .or(change_user)
        .unify()
        .boxed()
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

/// Several users at once: a screen full of names is one request.
async fn get_users(call: Arc<Call>) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let ids = parse_users(call.query.get("ids")?)?;
    let users = call.context.store.users(&ids).await?;
    reply::json(StatusCode::OK, &Users { users })
}

/// `U…,U…`: 1 to 100 ids.
fn parse_users(text: Option<&str>) -> Result<Vec<UserId>, ErrorBody> {
    let most = limits::HYDRATED_USERS;
    let expected = format!("1 to {most} user ids with commas");
    let Some(text) = text else {
        let message = format!("ids is missing: {expected}");
        return Err(ErrorBody::new(ErrorCode::MissingField, message).field("ids"));
    };
    let invalid = || {
        ErrorBody::new(ErrorCode::InvalidField, format!("ids must be {expected}"))
            .field("ids")
            .limit(most as u64)
    };
    let mut ids = Vec::new();
    for id in text.split(',') {
        if ids.len() == most {
            return Err(invalid());
        }
        ids.push(id.parse().map_err(|_| invalid())?);
    }
    Ok(ids)
}

/// Everybody changes themself and nobody else. `None`: the caller, as `me`.
async fn change(call: Arc<Call>, id: Option<String>, body: Body) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    if let Some(id) = id
        && parse_user(&id)? != user
    {
        return Err(Error::Forbidden("one changes only oneself").into());
    }
    let fields = Fields::read(&call.json_body(body).await?)?;
    let patch = IdentityPatch {
        name: fields.text("name")?,
        picture: fields.text("picture")?,
        status: fields.text("status")?,
    };
    let chat = call.context.chat.clone();
    let reply = call
        .context
        .to_the_end("change an identity", async move {
            chat.change_identity(user, patch).await
        })
        .await?;
    reply::json(StatusCode::OK, &reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_bounded_list() {
        let ids = parse_users(Some("U000000001,U000000002")).expect("two");
        assert_eq!(ids.len(), 2);
        let many = |n: usize| vec!["U000000001"; n].join(",");
        assert!(parse_users(Some(&many(100))).is_ok());
        let missing = parse_users(None).expect_err("none");
        assert_eq!(missing.code, ErrorCode::MissingField);
        for bad in ["", ",", "U000000001,", "me", "C000000001", &many(101)] {
            let error = parse_users(Some(bad)).expect_err(bad);
            assert_eq!(error.field.as_deref(), Some("ids"), "{bad}");
            assert_eq!(error.limit, Some(100));
        }
    }
}
