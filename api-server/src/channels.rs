use std::sync::Arc;

use hubbub_chat::Error;
use hubbub_protocol::{
    ChannelId, ErrorBody, ErrorCode,
    http::{Channel, ChannelKind, ListPage, NewChannel},
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
    let list = warp::path!("channels")
        .and(warp::get())
        .and(call(context, Some(Route::ListChannels)))
        .then(|call: Arc<Call>| answer(call.clone(), list(call)));
    let create = warp::path!("channels")
        .and(warp::post())
        .and(call(context, Some(Route::CreateChannel)))
        .and(body())
        .then(|call: Arc<Call>, body: Body| answer(call.clone(), create(call, body)));
    let get = warp::path!("channels" / String)
        .and(warp::get())
        .and(call(context, Some(Route::GetChannel)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), get(call, id)));
    list.or(create).unify().or(get).unify().boxed()
}

/// A channel's id in a path.
pub(crate) fn parse_channel(text: &str) -> Result<ChannelId, ErrorBody> {
    text.parse().map_err(|_| {
        ErrorBody::new(
            ErrorCode::InvalidField,
            "channel must be a channel id such as \"C000000005\"",
        )
        .field("channel")
    })
}

/// Mine and the public ones, by number; with `name` the one of that name, if the caller sees it.
async fn list(call: Arc<Call>) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let (limit, cursor) = (call.query.limit()?, call.query.cursor()?);
    let store = &call.context.store;
    let page = match call.query.get("name")? {
        Some(name) => {
            check_name(name)?;
            let found = store.channel_by_name(name, user).await?;
            ListPage {
                items: found.into_iter().collect::<Vec<Channel>>(),
                next: None,
            }
        }
        None => store.channels(user, cursor, limit).await?,
    };
    reply::json(StatusCode::OK, &page)
}

/// What cannot be a name is refused before the database is asked (it could not hold a U+0000).
pub(crate) fn check_name(name: &str) -> Result<(), ErrorBody> {
    let most = limits::CHANNEL_NAME_BYTES;
    if (1..=most).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::InvalidField,
        "name must be 1 to 80 bytes without control characters",
    )
    .field("name")
    .limit(most as u64))
}

async fn create(call: Arc<Call>, body: Body) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let new = parse_new_channel(&call.json_body(body).await?)?;
    let chat = call.context.chat.clone();
    let channel = call
        .context
        .to_the_end("create a channel", async move {
            chat.create_channel(user, new).await
        })
        .await?;
    reply::json(StatusCode::CREATED, &channel)
}

/// Reads `{name, kind?}`, naming the field at fault as a send does.
fn parse_new_channel(body: &[u8]) -> Result<NewChannel, ErrorBody> {
    let fields = Fields::read(body)?;
    let name = fields.required_text("name")?;
    let kind =
        || ErrorBody::new(ErrorCode::InvalidField, "kind must be public or private").field("kind");
    let kind = match fields.text("kind").map_err(|_| kind())?.as_deref() {
        None => None,
        Some("public") => Some(ChannelKind::Public),
        Some("private") => Some(ChannelKind::Private),
        Some(_) => return Err(kind()),
    };
    Ok(NewChannel { name, kind })
}

async fn get(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let channel = parse_channel(&id)?;
    match call.context.store.channel(channel, user).await? {
        Some(channel) => reply::json(StatusCode::OK, &channel),
        None => Err(Error::ChannelNotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_channel_is_read() {
        let new = parse_new_channel(br#"{"name":"Maths","kind":"private","mood":[1]}"#);
        let expected = NewChannel {
            name: "Maths".to_owned(),
            kind: Some(ChannelKind::Private),
        };
        assert_eq!(new, Ok(expected));
        assert_eq!(
            parse_new_channel(br#"{"name":"x"}"#).map(|new| new.kind),
            Ok(None)
        );
    }

    #[test]
    fn wrong_types_name_their_field() {
        for (body, code, field) in [
            (r#""#, ErrorCode::InvalidJson, None),
            (r#"[]"#, ErrorCode::InvalidJson, None),
            (r#"{"name":"\ud800"}"#, ErrorCode::InvalidJson, None),
            (r#"{}"#, ErrorCode::MissingField, Some("name")),
            (r#"{"name":null}"#, ErrorCode::MissingField, Some("name")),
            (r#"{"name":7}"#, ErrorCode::InvalidField, Some("name")),
            (
                r#"{"name":"x","kind":"direct"}"#,
                ErrorCode::InvalidField,
                Some("kind"),
            ),
            (
                r#"{"name":"x","kind":1}"#,
                ErrorCode::InvalidField,
                Some("kind"),
            ),
        ] {
            let error = parse_new_channel(body.as_bytes()).expect_err(body);
            assert_eq!(
                (error.code, error.field.as_deref()),
                (code, field),
                "{body}"
            );
        }
    }

    #[test]
    fn nesting_is_bounded_in_fields_that_are_ignored_too() {
        let nested = |depth: usize| {
            // The body itself is one level.
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!(r#"{{"name":"x","mood":{open}{close}}}"#)
        };
        assert!(parse_new_channel(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        for depth in [limits::JSON_DEPTH + 1, 60_000] {
            let error = parse_new_channel(nested(depth).as_bytes()).expect_err("too deep");
            assert_eq!(error.code, ErrorCode::InvalidJson);
            assert_eq!(error.limit, Some(limits::JSON_DEPTH as u64));
        }
    }

    #[test]
    fn name_of_a_lookup_is_bounded() {
        assert!(check_name("Maths %_'; drop table channels").is_ok());
        for bad in ["", "\0", "a\u{1}", &"x".repeat(81)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
