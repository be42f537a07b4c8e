//! The users' port: the room page, and who may open a WebSocket.

use crate::support::{Answer, Dev, get, get_with, is_ready, try_get};

const UPGRADE: [(&str, &str); 4] = [
    // After a refusal the connection is of no more use.
    ("Connection", "Upgrade, close"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn upgrade(port: u16, path: &str, protocol: Option<&str>) -> Answer {
    let protocol = protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol));
    let headers: Vec<_> = UPGRADE.into_iter().chain(protocol).collect();
    get_with(port, path, &headers)
}

#[test]
fn the_page_and_its_files_are_served() {
    let dev = Dev::start(1);
    for path in ["/", "/?roomId=r&displayName=n", "/index.html"] {
        let page = get(dev.users(0), path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'self'"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert!(page.text().contains("app.js"));
    }
    for (path, content_type) in [
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/app.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let file = get(dev.users(0), path);
        assert_eq!((file.status, file.header("content-type")), (200, Some(content_type)));
        let etag = file.header("etag").unwrap().to_owned();
        let again = get_with(dev.users(0), path, &[("If-None-Match", &format!("\"other\", W/{etag}"))]);
        assert_eq!((again.status, again.body.len()), (304, 0));
        let changed = get_with(dev.users(0), path, &[("If-None-Match", "\"other\"")]);
        assert_eq!(changed.status, 200);
    }
    for path in ["/nothing", "/../Cargo.toml", "/app.js/", "//app.js"] {
        let answer = get(dev.users(0), path);
        assert!(matches!(answer.status, 400 | 404) || path == "//app.js", "{path}: {}", answer.status);
    }
}

#[test]
fn a_websocket_needs_the_protocol_and_both_ids() {
    let dev = Dev::start(1);
    let port = dev.users(0);
    let ids = "/?roomId=r&peerId=p";
    assert_eq!(upgrade(port, ids, None).status, 403);
    assert_eq!(upgrade(port, ids, Some("chat")).status, 403);
    for (path, words) in [
        ("/?roomId=r", "lacks peerId"),
        ("/?peerId=p", "lacks roomId"),
        ("/?roomId=&peerId=p", "roomId is empty"),
        ("/?roomId=r&peerId=p&namespace=a/b", "namespace contains the character '/'"),
        ("/?roomId=a%0Ab&peerId=p", "roomId contains the character"),
    ] {
        let answer = upgrade(port, path, Some("protoo"));
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
    }
    let long = upgrade(port, &format!("/?roomId={}&peerId=p", "x".repeat(129)), Some("protoo"));
    assert_eq!(long.status, 400);
    assert!(long.text().contains("at most 128"), "{}", long.text());
}

#[test]
fn a_broken_upgrade_is_refused() {
    let dev = Dev::start(1);
    let no_key: Vec<_> = UPGRADE.into_iter().filter(|(name, _)| *name != "Sec-WebSocket-Key").collect();
    assert_eq!(get_with(dev.users(0), "/?roomId=r&peerId=p", &no_key).status, 400);
    let old = UPGRADE.map(|(name, value)| (name, if value == "13" { "8" } else { value }));
    assert_eq!(get_with(dev.users(0), "/?roomId=r&peerId=p", &old).status, 400);
    assert!(is_ready(dev.users(0)));
}

#[test]
fn headers_have_a_limit() {
    let dev = Dev::start(1);
    let long = "x".repeat(20_000);
    let answer = try_get(dev.users(0), "/", &[("X-Long", &long)]);
    assert!(answer.is_none_or(|answer| answer.status == 431));
    let many: Vec<_> = (0..100).map(|i| format!("X-{i}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = try_get(dev.users(0), "/", &many);
    assert!(answer.is_none_or(|answer| answer.status == 431));
    assert!(is_ready(dev.users(0)));
}
