//! `POST /failpoints` on the ops port, in a build with the feature alone: a fault of the code begins
//! and ends while the process runs.
//!
//! The body has a line for each failpoint, `name=action` in the words of the `fail` crate
//! (`20%return`, `return`, `sleep(50)`), and `name=off` takes it away. 204 once all are set; 400
//! names the first line that cannot be read, and the lines before it are in force.
use std::convert::Infallible;

use bytes::Bytes;
use warp::{Filter, http::StatusCode, reply::Response};

/// The bound of a body; a line has some 50 bytes.
const BODY_BYTES: u64 = 16 * 1024;

/// Answers `POST /failpoints`, and leaves everything else to `routes`, a body that is too long too.
pub(crate) fn before<F>(
    routes: F,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static
where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
{
    let set = warp::path!("failpoints")
        .and(warp::post())
        .and(warp::body::content_length_limit(BODY_BYTES))
        .and(warp::body::bytes())
        .map(|body: Bytes| answer(set(&body)));
    set.or(routes).unify()
}

fn answer(result: Result<(), String>) -> Response {
    let (status, text) = match result {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err(problem) => (StatusCode::BAD_REQUEST, problem + "\n"),
    };
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}

fn set(body: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, action)) = line.split_once('=') else {
            return Err(format!("`{line}` is not name=action"));
        };
        if action == "off" {
            fail::remove(name);
        } else {
            fail::cfg(name, action).map_err(|error| format!("`{line}`: {error}"))?;
        }
        tracing::warn!(failpoint = name, action, "failpoint set");
    }
    Ok(())
}
