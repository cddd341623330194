//! Edits, deletions and reactions: what is about a message that is there.
use std::sync::Arc;

use hubbub_protocol::{
    ChangeOptions, ChannelId, DeleteMessage, EditMessage, ErrorBody, MessageReply, Outcome, React,
    Seq, UserId, checked_reaction,
};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    channels::parse_channel,
    context::Context,
    path::{parse_seq, segment},
    reply::{self, Failure},
    route::Route,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let edit = warp::path!("channels" / String / "messages" / String)
        .and(warp::patch())
        .and(call(context, Some(Route::EditMessage)))
        .and(body())
        .then(|id: String, seq: String, call: Arc<Call>, body: Body| {
            answer(call.clone(), edit(call, id, seq, body))
        });
    let delete = warp::path!("channels" / String / "messages" / String)
        .and(warp::delete())
        .and(call(context, Some(Route::DeleteMessage)))
        .and(body())
        .then(|id: String, seq: String, call: Arc<Call>, body: Body| {
            answer(call.clone(), delete(call, id, seq, body))
        });
    let add = warp::path!("channels" / String / "messages" / String / "reactions" / String)
        .and(warp::put())
        .and(call(context, Some(Route::AddReaction)))
        .and(body())
        .then(
            |id: String, seq: String, reaction: String, call: Arc<Call>, body: Body| {
                answer(call.clone(), react(call, [id, seq, reaction], false, body))
            },
        );
    let remove = warp::path!("channels" / String / "messages" / String / "reactions" / String)
        .and(warp::delete())
        .and(call(context, Some(Route::RemoveReaction)))
        .and(body())
        .then(
            |id: String, seq: String, reaction: String, call: Arc<Call>, body: Body| {
                answer(call.clone(), react(call, [id, seq, reaction], true, body))
            },
        );
    edit.or(delete)
        .unify()
        .or(add)
        .unify()
        .or(remove)
        .unify()
        .boxed()
}

/// What failed without saying that it may be in the log is not in it.
pub(crate) fn rejected(mut failure: Failure) -> Failure {
    failure.body.outcome.get_or_insert(Outcome::Rejected);
    failure
}

/// Who asks, about what; the same for all four.
async fn begin(call: &Call, id: &str, seq: &str) -> Result<(UserId, ChannelId, Seq), Failure> {
    let user = call.user().await?;
    // A change's own rate is taken only after the core database was asked, so this one guards it.
    call.context.take_request(user)?;
    Ok((user, parse_channel(id)?, parse_seq(seq, 1)?))
}

fn done(reply: &MessageReply) -> Result<Response, Failure> {
    reply::json(StatusCode::OK, reply)
}

async fn edit(call: Arc<Call>, id: String, seq: String, body: Body) -> Result<Response, Failure> {
    let edited = async {
        let (user, channel, target) = begin(&call, &id, &seq).await?;
        let body = call.json_body(body).await?;
        let edit = EditMessage::decode(channel, target, &body)?;
        done(&call.context.chat.edit(user, edit).await?)
    };
    edited.await.map_err(rejected)
}

async fn delete(call: Arc<Call>, id: String, seq: String, body: Body) -> Result<Response, Failure> {
    let deleted = async {
        let (user, channel, target) = begin(&call, &id, &seq).await?;
        let options = options(&call, body).await?;
        let delete = DeleteMessage {
            channel,
            target,
            client_msg_id: options.client_msg_id,
            retry: options.retry,
        };
        done(&call.context.chat.delete(user, delete).await?)
    };
    deleted.await.map_err(rejected)
}

async fn react(
    call: Arc<Call>,
    [id, seq, reaction]: [String; 3],
    remove: bool,
    body: Body,
) -> Result<Response, Failure> {
    let reacted = async {
        let (user, channel, target) = begin(&call, &id, &seq).await?;
        let reaction = checked_reaction(segment(&reaction, "reaction")?)?;
        let options = options(&call, body).await?;
        let react = React {
            channel,
            target,
            reaction,
            remove,
            client_msg_id: options.client_msg_id,
            retry: options.retry,
        };
        done(&call.context.chat.react(user, react).await?)
    };
    reacted.await.map_err(rejected)
}

async fn options(call: &Call, body: Body) -> Result<ChangeOptions, ErrorBody> {
    ChangeOptions::decode(&call.json_body_if_any(body).await?)
}
