//! The chat page and the dashboard: the files of `web/`, which this program carries, and the
//! development sign-in.
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use hubbub_protocol::{ErrorBody, ErrorCode};
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
            REFERRER_POLICY,
        },
    },
    reply::Response,
};

use crate::{
    call::{Body, Call, answer, body, call},
    context::Context,
    reply::Failure,
    route::Route,
    sign_in,
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// What the pages may load: our own files, and nothing else at all. `'self'` holds for the
/// WebSocket too (CSP 3, 6.7.2.8). Pictures may be written out, as some users' are.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);
/// Kept, and asked for each time whether it is still this: servers of two versions may stand side
/// by side, and a page must not be of both.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

struct File {
    name: &'static str,
    kind: &'static str,
    /// Where it was when this program was built.
    path: &'static str,
    content: &'static [u8],
}

macro_rules! file {
    ($directory:literal, $name:literal, $kind:expr) => {
        file!(@ concat!(env!("CARGO_MANIFEST_DIR"), "/../web", $directory, "/", $name), $name, $kind)
    };
    (@ $path:expr, $name:literal, $kind:expr) => {
        File {
            name: $name,
            kind: $kind,
            path: $path,
            content: include_bytes!($path),
        }
    };
}

impl File {
    /// What it says, and what names that. A debug build reads it anew each time, so that whoever
    /// works on the page sees an edit by loading the page again.
    fn read(&self) -> (Bytes, HeaderValue) {
        let edited = cfg!(debug_assertions)
            .then(|| std::fs::read(self.path).ok())
            .flatten();
        match edited {
            Some(content) => {
                let tag = tag_of([(self.name, content.as_slice())]);
                (content.into(), tag)
            }
            None => (Bytes::from_static(self.content), VERSION.clone()),
        }
    }
}

fn tag_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
    }
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("quoted digits")
}

static CHAT: File = file!("", "index.html", HTML);
static DASHBOARD: File = file!("", "dashboard.html", HTML);
static ASSETS: [File; 31] = [
    file!("/assets", "api.js", SCRIPT),
    file!("/assets", "auth.js", SCRIPT),
    file!("/assets", "backoff.js", SCRIPT),
    file!("/assets", "base.css", STYLE),
    file!("/assets", "board.js", SCRIPT),
    file!("/assets", "chart.js", SCRIPT),
    file!("/assets", "chat-model.js", SCRIPT),
    file!("/assets", "chat.css", STYLE),
    file!("/assets", "chat.js", SCRIPT),
    file!("/assets", "company.js", SCRIPT),
    file!("/assets", "connection.js", SCRIPT),
    file!("/assets", "dashboard.css", STYLE),
    file!("/assets", "dashboard.js", SCRIPT),
    file!("/assets", "dialogs.js", SCRIPT),
    file!("/assets", "dom.js", SCRIPT),
    file!("/assets", "events.js", SCRIPT),
    file!("/assets", "history.js", SCRIPT),
    file!("/assets", "icon.svg", PICTURE),
    file!("/assets", "listening.js", SCRIPT),
    file!("/assets", "marks.js", SCRIPT),
    file!("/assets", "outbox.js", SCRIPT),
    file!("/assets", "place.js", SCRIPT),
    file!("/assets", "session.js", SCRIPT),
    file!("/assets", "thread.js", SCRIPT),
    file!("/assets", "timeline.js", SCRIPT),
    file!("/assets", "unread.js", SCRIPT),
    file!("/assets", "users.js", SCRIPT),
    file!("/assets", "view-composer.js", SCRIPT),
    file!("/assets", "view-log.js", SCRIPT),
    file!("/assets", "view-side.js", SCRIPT),
    file!("/assets", "view-sidebar.js", SCRIPT),
];

/// Names the content of all files together, so that they change together.
static VERSION: LazyLock<HeaderValue> = LazyLock::new(|| {
    let all = ASSETS.iter().chain([&CHAT, &DASHBOARD]);
    tag_of(all.map(|file| (file.name, file.content)))
});

pub(crate) fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let page = |file: &'static File| {
        move |call: Arc<Call>| {
            let served = std::future::ready(Ok(serve(file, &call.headers)));
            answer(call, served)
        }
    };
    let ui = call(context, Some(Route::Ui));
    let people = warp::path!("ui" / "sign-in")
        .and(warp::get())
        .and(call(context, Some(Route::GetSignIn)))
        .then(|call: Arc<Call>| answer(call.clone(), sign_in::people(call)));
    let sign_in = warp::path!("ui" / "sign-in")
        .and(warp::post())
        .and(call(context, Some(Route::SignIn)))
        .and(body())
        .then(|call: Arc<Call>, body: Body| answer(call.clone(), sign_in::sign_in(call, body)));
    let asset = warp::path!("ui" / "assets" / String)
        .and(warp::get())
        .and(ui.clone())
        .then(|name: String, call: Arc<Call>| {
            let served = std::future::ready(asset(&name, &call.headers));
            answer(call, served)
        });
    let dashboard = warp::path!("ui" / "dashboard")
        .and(warp::get())
        .and(ui.clone())
        .then(page(&DASHBOARD));
    let chat = warp::path!("ui")
        .and(warp::get())
        .and(ui.clone())
        .then(page(&CHAT));
    // The page finds out what the room is, with the rights of who looks at it.
    let room = warp::path!("ui" / String)
        .and(warp::get())
        .and(ui)
        .then(move |_room: String, call: Arc<Call>| page(&CHAT)(call));
    people
        .or(sign_in)
        .unify()
        .or(asset)
        .unify()
        .or(dashboard)
        .unify()
        .or(chat)
        .unify()
        .or(room)
        .unify()
        .boxed()
}

fn asset(name: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    match ASSETS.iter().find(|file| file.name == name) {
        Some(file) => Ok(serve(file, headers)),
        None => Err(ErrorBody::new(ErrorCode::NotFound, "no such address").into()),
    }
}

/// The file, or that it is still the one that the browser has.
fn serve(file: &'static File, asked: &HeaderMap) -> Response {
    let (content, version) = file.read();
    let has_it = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == version.as_bytes());
    let mut response = if has_it {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(content.into())
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ETAG, version);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static("same-origin"),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_carried() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/assets");
        let there: BTreeSet<String> = std::fs::read_dir(directory)
            .expect("the page's files")
            .map(|entry| entry.expect("a file").file_name().into_string())
            .collect::<Result<_, _>>()
            .expect("names are UTF-8");
        let carried = ASSETS.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, carried);
    }

    #[test]
    fn file_that_the_browser_has_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        let first = serve(&CHAT, &headers);
        assert_eq!(first.status(), 200);
        let tag = first.headers()[ETAG].clone();
        for (tag, status) in [
            (tag.to_str().expect("ASCII").to_owned(), 304),
            (
                format!("\"other\", W/{}", tag.to_str().expect("ASCII")),
                304,
            ),
            ("\"other\"".to_owned(), 200),
        ] {
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(tag).expect("a header"));
            let again = serve(&CHAT, &headers);
            assert_eq!(again.status(), status);
            assert_eq!(again.headers()[CONTENT_SECURITY_POLICY], POLICY);
        }
    }

    #[test]
    fn pages_have_no_script_or_style_of_their_own() {
        for file in [&CHAT, &DASHBOARD] {
            let text = std::str::from_utf8(file.content).expect("UTF-8");
            assert!(!text.contains("<style") && !text.contains("style="));
            assert!(!text.contains(" on") && !text.contains("javascript:"));
            for script in text.split("<script").skip(1) {
                assert!(script.starts_with(" type=\"module\" src=\"/ui/assets/"));
            }
        }
    }
}
