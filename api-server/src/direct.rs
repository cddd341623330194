use std::sync::Arc;

use hubbub_protocol::http::Direct;
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call, answer, body, call},
    context::Context,
    fields::Fields,
    reply::{self, Failure},
    route::Route,
    users::parse_user,
};

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    warp::path!("direct")
        .and(warp::post())
        .and(call(context, Some(Route::OpenDirect)))
        .and(body())
        .then(|call: Arc<Call>, body: Body| answer(call.clone(), open(call, body)))
        .boxed()
}

/// The same channel whoever asks first and however often: so 200, not 201.
async fn open(call: Arc<Call>, body: Body) -> Result<Response, Failure> {
    let user = call.user().await?;
    call.context.take_request(user)?;
    let fields = Fields::read(&call.json_body(body).await?)?;
    let other = parse_user(&fields.required_text("user")?)?;
    let chat = call.context.chat.clone();
    let channel = call
        .context
        .to_the_end("open a direct channel", async move {
            chat.open_direct(user, other).await
        })
        .await?;
    reply::json(StatusCode::OK, &Direct { channel })
}
