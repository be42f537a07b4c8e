//! The room page: files that the build embedded.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// A file of `node/web/room/dist`.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    content: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page itself.
pub(super) const INDEX: &str = "index.html";

/// Answers with the file `path`, or 304 when the client has it, or 404.
///
/// Nothing is cached without asking again: the files are small and few, their names stay the same over releases, and a
/// page that does not fit its server is the one thing that must not happen.
pub(super) fn serve(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let cache = [(ETAG, asset.etag), (CACHE_CONTROL, "no-cache")].map(|(k, v)| (k, HeaderValue::from_static(v)));
    if headers.get_all(IF_NONE_MATCH).iter().any(|tags| matches(tags, asset.etag)) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    (cache, [(CONTENT_TYPE, asset.content_type)], asset.content).into_response()
}

/// Whether an `If-None-Match` names the tag, RFC 9110 section 13.1.2 (weak comparison).
fn matches(tags: &HeaderValue, etag: &str) -> bool {
    tags.to_str().is_ok_and(|tags| {
        tags.split(',').any(|tag| matches!(tag.trim().trim_start_matches("W/"), t if t == etag || t == "*"))
    })
}
