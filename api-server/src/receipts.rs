//! Marks, what came of them, and what is unread.
use std::{collections::HashSet, sync::Arc};

use hubbub_chat::Error;
use hubbub_protocol::{
    ChannelId, DeviceId, ErrorBody, ErrorCode, Mark, MarkReply, Outcome, Seq, UserId,
    http::{DeliveryStatus, DeviceReceipt, DeviceStatus, MessageStatus, Receipts},
    limits,
};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    channels::parse_channel,
    context::Context,
    path::parse_seq,
    reply::{self, Failure},
    route::Route,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let mark = warp::path!("channels" / String / "marks")
        .and(warp::put())
        .and(call(context, Some(Route::SetMarks)))
        .and(body())
        .then(|id: String, call: Arc<Call>, body: Body| answer(call.clone(), mark(call, id, body)));
    let receipts = warp::path!("channels" / String / "receipts")
        .and(warp::get())
        .and(call(context, Some(Route::GetReceipts)))
        .then(|id: String, call: Arc<Call>| answer(call.clone(), receipts(call, id)));
    let status = warp::path!("channels" / String / "messages" / String / "status")
        .and(warp::get())
        .and(call(context, Some(Route::GetStatus)))
        .then(|id: String, seq: String, call: Arc<Call>| {
            answer(call.clone(), status(call, id, seq))
        });
    mark.or(receipts).unify().or(status).unify().boxed()
}

pub(crate) fn unread_routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("unread")
        .and(warp::get())
        .and(call(context, Some(Route::GetUnread)))
        .then(|call: Arc<Call>| answer(call.clone(), unread(call)))
        .boxed()
}

/// The device of the token, or of the query where the token names none.
async fn caller(call: &Call) -> Result<(UserId, DeviceId), Failure> {
    let (user, device) = call.user_and_device().await?;
    if let Some(device) = device {
        return Ok((user, device));
    }
    let error = |code, message: &str| ErrorBody::new(code, message).field("device");
    match call.query.get("device")? {
        Some(text) => match text.parse() {
            Ok(device) => Ok((user, device)),
            Err(_) => {
                let message = "device must be 1 to 64 letters, digits or -_.";
                Err(error(ErrorCode::InvalidField, message).into())
            }
        },
        None => {
            let message = "the token names no device: give it as ?device=";
            Err(error(ErrorCode::MissingField, message).into())
        }
    }
}

/// A mark that failed with an unknown outcome may be repeated as it is: cursors never go back.
async fn mark(call: Arc<Call>, id: String, body: Body) -> Result<Response, Failure> {
    let (user, device) = caller(&call).await?;
    call.context.take_request(user)?;
    let channel = parse_channel(&id)?;
    let mark = Mark::decode(channel, &call.json_body(body).await?)?;
    let marked = call.context.chat.mark(user, device, mark).await;
    marked.map_err(|error| {
        let mut failure = Failure::from(error);
        if failure.body.outcome == Some(Outcome::Unknown) {
            "the log did not acknowledge in time: send the mark again"
                .clone_into(&mut failure.body.message);
        }
        failure
    })?;
    reply::json(StatusCode::OK, &MarkReply { channel })
}

/// Whose cursors the caller may see: every member's in a small channel, else their own. In a large
/// one the list would be long, and who has read what is nobody's business there.
async fn visible(
    context: &Context,
    channel: ChannelId,
    me: UserId,
) -> Result<Vec<UserId>, Failure> {
    let members = context
        .store
        .members(channel, 0, limits::RECEIPT_MEMBERS)
        .await?;
    Ok(match members.next {
        Some(_) => vec![me],
        None => members.items.into_iter().map(|m| m.user.id).collect(),
    })
}

async fn receipts(call: Arc<Call>, id: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let context = &call.context;
    context.take_request(user)?;
    let channel = parse_channel(&id)?;
    context.seen_as_member(channel, user).await?;
    let users = visible(context, channel, user).await?;
    let receipts = context.store.receipts(channel, &users).await?;
    // After the read: a removal that was answered meanwhile holds (contract P8).
    context.chat.permit(channel, user).await?;
    reply::json(StatusCode::OK, &Receipts { receipts })
}

async fn status(call: Arc<Call>, id: String, seq: String) -> Result<Response, Failure> {
    let user = call.user().await?;
    let context = &call.context;
    context.take_request(user)?;
    let (channel, seq) = (parse_channel(&id)?, parse_seq(&seq, 1)?);
    context.seen_as_member(channel, user).await?;
    let users = visible(context, channel, user).await?;
    let receipts = context.store.receipts(channel, &users).await?;
    // After the cursors, so that the message is at least as far as they say.
    let target = context.store.target(channel, seq).await?;
    context.chat.permit(channel, user).await?;
    if target.message.is_none() && seq <= target.head {
        return Err(Error::MessageNotFound.into());
    }
    let devices = devices(seq, target.head, &users, receipts);
    reply::json(StatusCode::OK, &MessageStatus { devices })
}

fn devices(
    seq: Seq,
    head: Seq,
    users: &[UserId],
    receipts: Vec<DeviceReceipt>,
) -> Vec<DeviceStatus> {
    let in_store = if seq <= head {
        DeliveryStatus::Sent
    } else {
        DeliveryStatus::None
    };
    let heard_of: HashSet<UserId> = receipts.iter().map(|receipt| receipt.user).collect();
    let silent = users.iter().filter(|user| !heard_of.contains(user));
    let mut devices: Vec<_> = silent
        .map(|user| DeviceStatus {
            user: *user,
            device: None,
            status: in_store,
        })
        .collect();
    devices.extend(receipts.into_iter().map(|receipt| DeviceStatus {
        user: receipt.user,
        status: if receipt.read >= seq {
            DeliveryStatus::Read
        } else if receipt.delivered >= seq {
            // Live messages reach a device before the store has them.
            DeliveryStatus::Delivered
        } else {
            in_store
        },
        device: Some(receipt.device),
    }));
    devices.sort_by(|a, b| (a.user, &a.device).cmp(&(b.user, &b.device)));
    devices
}

async fn unread(call: Arc<Call>) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let unread = call.context.store.unread(user).await?;
    reply::json(StatusCode::OK, &unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_grows_with_store_and_cursors() {
        let user = |n| UserId::new(n).expect("from 1");
        let receipt = |delivered, read| DeviceReceipt {
            user: user(2),
            device: "phone".parse().expect("a device"),
            delivered: Seq(delivered),
            read: Seq(read),
        };
        let status = |head, delivered, read| {
            let users = [user(1), user(2)];
            let all = devices(Seq(7), Seq(head), &users, vec![receipt(delivered, read)]);
            assert_eq!((all[0].user, &all[0].device), (user(1), &None));
            (all[0].status, all[1].status)
        };
        use DeliveryStatus::{Delivered, Read, Sent};
        let none = DeliveryStatus::None;
        assert_eq!(status(6, 6, 6), (none, none));
        assert_eq!(status(6, 7, 6), (none, Delivered));
        assert_eq!(status(7, 6, 6), (Sent, Sent));
        assert_eq!(status(9, 7, 6), (Sent, Delivered));
        assert_eq!(status(9, 9, 7), (Sent, Read));
    }
}
