//! Who may enter, with what token, and what they may do inside.

mod named;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};
use sluice_media::messages::{Traffic, WorkerSnapshot};
use sluice_proto::ids::{NamespaceId, PeerId, Region, RoomId, RoomKey};

use super::client::{Client, entrance, join_data, opening};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::access::token::{Claims, TokenError, sign};
use crate::access::{Grants, Namespaces, OPEN, Publish};
use crate::config::{KeyAlgorithm, NamespacesConfig};
use crate::entrance::{AdmissionError, Entrance, Opening};
use crate::rooms::operations::Operation;
use crate::support::unix_ms;

const SECRET: &str = "a-secret-of-thirty-two-characters";

const ALL_PEERS: &str = "the namespace has all the peers that it may";

/// A node with the tenants that a file describes.
struct Gate {
    node: TestNode,
    namespaces: Arc<Namespaces>,
    entrance: Entrance,
}

fn config(toml: &str) -> NamespacesConfig {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let sources = crate::config::Sources { file: Some(file.path().to_owned()), ..Default::default() };
    crate::config::NodeConfig::load(&sources).unwrap().namespaces
}

fn gate(toml: &str) -> Gate {
    gate_in(&World::default(), "eu-1", toml)
}

fn gate_in(world: &World, name: &str, toml: &str) -> Gate {
    let node = TestNode::start(world, name, 1);
    let namespaces = Arc::new(Namespaces::new(&config(toml), Region::new("eu").unwrap()).unwrap());
    let entrance = Entrance::new(node.rooms.clone(), namespaces.clone());
    Gate { node, namespaces, entrance }
}

/// A tenant with one HS256 key, and what else is said of it.
fn acme(more: &str) -> String {
    format!(
        "[namespaces.acme]\n{more}\n[[namespaces.acme.keys]]\nid = \"k1\"\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n"
    )
}

fn now() -> u64 {
    unix_ms() / 1000
}

/// Claims of alice in the room `room` of the tenant, an hour long, and what a test changes.
fn claims(change: Value) -> Claims {
    let mut claims = json!({"namespace": "acme", "room": "room", "sub": "alice", "exp": now() + 3600});
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    serde_json::from_value(claims).unwrap()
}

fn token(change: Value) -> String {
    sign(&claims(change), "k1", KeyAlgorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A token of exactly these claims.
fn signed(claims: &Value) -> String {
    let header = Header { kid: Some("k1".to_owned()), ..Header::default() };
    let mut claims = claims.clone();
    claims["namespace"] = json!("acme");
    encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn with(token: &str) -> Opening {
    Opening { peer: None, token: Some(token.to_owned()), ..opening("room", "anybody", None) }
}

fn refused(gate: &Gate, opening: Opening) -> AdmissionError {
    let checked = gate.entrance.check(&opening).unwrap_err();
    let refusal = gate.entrance.admit(opening).err().expect("nobody enters");
    assert_eq!(checked, refusal, "a page is told the same");
    refusal
}

#[tokio::test(start_paused = true)]
async fn a_token_lets_in_and_says_who_it_is() {
    let gate = gate(&acme(""));
    let mut alice =
        Client::admit(&gate.entrance, with(&token(json!({"name": "\u{202e}Al\nice", "metadata": {"team": 7}}))))
            .unwrap();
    let mut bob = Client::admit(&gate.entrance, with(&token(json!({"sub": "bob"})))).unwrap();
    bob.join().await;
    alice.join().await;
    let new = bob.next_notification("newPeer").await;
    assert_eq!(
        (&new["id"], &new["displayName"], &new["metadata"]),
        (&json!("alice"), &json!("Alice"), &json!({"team": 7}))
    );
    let renamed = alice.request("changeDisplayName", json!({"displayName": "Bob"})).await;
    assert_eq!(renamed.unwrap_err().0, 403, "the tenant says the name");
}

#[tokio::test(start_paused = true)]
async fn whose_token_allows_no_data_sends_none() {
    let gate = gate(&acme(""));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({"grants": {"publishData": false}})))).unwrap();
    alice.join().await;
    let request =
        json!({"transportId": alice.send_transport, "sctpStreamParameters": {"streamId": 0}, "label": "chat"});
    let (code, words) = alice.request("produceData", request).await.unwrap_err();
    assert_eq!((code, words.contains("data")), (403, true), "{words}");
}

#[tokio::test(start_paused = true)]
async fn tokens_of_every_bad_kind_are_refused() {
    let gate = gate(&acme("revoked = [\"stolen\"]"));
    let other_secret = EncodingKey::from_secret(&[b'x'; 32]);
    let forged = sign(&claims(json!({})), "k1", KeyAlgorithm::HS256, &other_secret).unwrap();
    let unknown_key = sign(&claims(json!({})), "k2", KeyAlgorithm::HS256, &other_secret).unwrap();
    let good = token(json!({}));
    let (header, rest) = good.split_once('.').unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}", rest.rsplit_once('.').unwrap().0) + ".";
    let other_payload = token(json!({"sub": "mallory"}));
    let demanding = Header { kid: Some("k1".to_owned()), crit: Some(vec!["exp".to_owned()]), ..Header::default() };
    let critical = encode(&demanding, &claims(json!({})), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    let spliced = format!("{header}.{}.{}", other_payload.split('.').nth(1).unwrap(), rest.rsplit_once('.').unwrap().1);
    let unauthorised = [
        (String::new(), None),
        ("a.b.c".to_owned(), None),
        ("ü".to_owned(), None),
        ("x".repeat(5000), Some(TokenError::TooLong(5000))),
        (unsigned, None),
        (forged, Some(TokenError::WrongSignature)),
        (spliced, Some(TokenError::WrongSignature)),
        (critical, Some(TokenError::Critical)),
        (unknown_key, Some(TokenError::UnknownKey)),
        (token(json!({"exp": now() - 31})), Some(TokenError::Expired)),
        (token(json!({"nbf": now() + 60})), Some(TokenError::NotYetValid)),
        (signed(&json!({"exp": now() as f64 - 31.5})), Some(TokenError::Expired)),
        (signed(&json!({"exp": -1})), None),
        (token(json!({"jti": "stolen"})), Some(TokenError::Revoked)),
        (token(json!({"namespace": "other"})), Some(TokenError::UnknownKey)),
    ];
    for (token, expected) in unauthorised {
        match (refused(&gate, with(&token)), expected) {
            (AdmissionError::Unauthorised(error), Some(expected)) => assert_eq!(error, expected, "{token}"),
            (AdmissionError::Unauthorised(_), None) => {}
            (other, _) => panic!("{token}: {other:?}"),
        }
    }
    let missing = Opening { token: None, ..with("") };
    assert_eq!(refused(&gate, missing), AdmissionError::Unauthorised(TokenError::Missing));
    let elsewhere = Opening { namespace: Some(NamespaceId::new("other").unwrap()), token: None, ..with("") };
    assert_eq!(
        refused(&gate, elsewhere),
        AdmissionError::Unauthorised(TokenError::Missing),
        "nobody learns which there are"
    );
    for forbidden in [
        with(&token(json!({"room": "rooms"}))),
        with(&token(json!({"region": "us"}))),
        Opening { peer: Some(PeerId::new("bob").unwrap()), ..with(&good) },
        Opening { room: RoomId::new("another").unwrap(), ..with(&good) },
    ] {
        assert!(matches!(refused(&gate, forbidden), AdmissionError::Forbidden(_)));
    }
    assert!(matches!(refused(&gate, with(&token(json!({"sub": null})))), AdmissionError::Incomplete(_)));
    // Clocks may be a little apart, and rooms may be many.
    for good in [json!({"exp": now() - 5}), json!({"nbf": now() + 5}), json!({"room": "r*m"}), json!({"room": null})] {
        drop(gate.entrance.admit(with(&token(good))).unwrap());
    }
    // Libraries write times as they like.
    let fractions = json!({"sub": "alice", "exp": now() as f64 + 60.5, "nbf": now() as f64 - 0.5, "iat": 1.5});
    drop(gate.entrance.admit(with(&signed(&fractions))).unwrap());
}

#[tokio::test]
async fn each_algorithm_signs_and_none_passes_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut toml = acme("");
    let pairs = [
        ("es", KeyAlgorithm::ES256, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()),
        ("ed", KeyAlgorithm::EdDSA, KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ];
    for (id, algorithm, pair) in &pairs {
        let path = dir.path().join(id);
        std::fs::write(&path, pair.public_key_pem()).unwrap();
        toml += &format!(
            "[[namespaces.acme.keys]]\nid = \"{id}\"\nalgorithm = \"{algorithm:?}\"\npublic_key_file = {path:?}\n"
        );
    }
    let gate = gate(&toml);
    for (id, algorithm, pair) in &pairs {
        let pem = pair.serialize_pem();
        let key = match algorithm {
            KeyAlgorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        let key = key.unwrap();
        drop(gate.entrance.admit(with(&sign(&claims(json!({})), id, *algorithm, &key).unwrap())).unwrap());
        // The public key is known to everybody: it is no secret to sign with.
        let confused = EncodingKey::from_secret(pair.public_key_pem().as_bytes());
        let confused = sign(&claims(json!({})), id, KeyAlgorithm::HS256, &confused).unwrap();
        assert_eq!(refused(&gate, with(&confused)), AdmissionError::Unauthorised(TokenError::WrongAlgorithm));
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_right_to_send_or_receive_does_not() {
    let gate = gate(&acme(""));
    let enter = |peer: &str, grants: Value| {
        Client::admit(&gate.entrance, with(&token(json!({"sub": peer, "grants": grants})))).unwrap()
    };
    let mut speaker = enter("speaker", json!({"publish": ["audio"]}));
    let mut deaf = enter("deaf", json!({"subscribe": false}));
    let mut hidden = enter("hidden", json!({"hidden": true}));
    for client in [&mut speaker, &mut deaf, &mut hidden] {
        client.join().await;
    }
    let audio = speaker.produce("audio", rtp::opus(1)).await;
    let mut asks = enter("asks", json!({"subscribe": false}));
    let on_request = json!({"subscription": "onRequest", "rtpCapabilities": rtp::capabilities()});
    asks.request("join", on_request).await.unwrap();
    assert_eq!(asks.request("subscribe", json!({"producerId": audio})).await.unwrap_err().0, 403);
    let transport = speaker.send_transport.clone();
    let video = json!({"transportId": transport, "kind": "video", "rtpParameters": rtp::vp8(2), "appData": {}});
    assert_eq!(speaker.request("produce", video).await.unwrap_err().0, 403);
    hidden.accept_consumer().await;
    let told = deaf.settle().await;
    assert!(told.iter().all(|message| message["method"] != "newConsumer"), "{told:?}");
    let told = speaker.settle().await;
    assert!(told.iter().all(|message| message["data"]["id"] != "hidden"), "{told:?}");
    let transport = hidden.send_transport.clone();
    hidden.connect(&transport).await.unwrap();
    let audio = json!({"transportId": transport, "kind": "audio", "rtpParameters": rtp::opus(3), "appData": {}});
    assert_eq!(hidden.request("produce", audio).await.unwrap_err().0, 403);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token_unless_that_is_renewed() {
    let gate = gate(&acme(""));
    let short = || token(json!({"exp": now() + 60, "grants": {"publish": false}}));
    let mut expires = Client::admit(&gate.entrance, with(&short())).unwrap();
    let mut renews = Client::admit(&gate.entrance, with(&token(json!({"sub": "bob", "exp": now() + 60})))).unwrap();
    expires.join().await;
    renews.join().await;
    let other = token(json!({"sub": "carol"}));
    assert_eq!(renews.request("renewToken", json!({"token": other})).await.unwrap_err().0, 403, "of another peer");
    renews.produce("audio", rtp::opus(1)).await;
    expires.accept_consumer().await;
    let longer = token(json!({"sub": "bob", "grants": {"publish": false}}));
    renews.request("renewToken", json!({"token": longer})).await.unwrap();
    expires.next_notification("consumerClosed").await;
    let (expired, goes_on) =
        tokio::join!(expires.closed_within(Duration::from_secs(100)), renews.wait(Duration::from_secs(100)));
    assert_eq!(expired, (4001, "the token has expired".to_owned()));
    assert_eq!(goes_on, None);
}

#[tokio::test(start_paused = true)]
async fn a_key_or_token_that_is_withdrawn_ends_its_sessions() {
    let gate = gate(&acme(""));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({"jti": "a"})))).unwrap();
    let mut bob = Client::admit(&gate.entrance, with(&token(json!({"sub": "bob", "jti": "b"})))).unwrap();
    alice.join().await;
    bob.join().await;
    gate.namespaces.set(&config(&acme("revoked = [\"a\"]"))).unwrap();
    gate.node.rooms.reauthorise().await;
    assert_eq!(alice.closed().await, (4001, "the token was revoked".to_owned()));
    assert_eq!(bob.wait(SOON).await, None);
    gate.namespaces.set(&config(&acme("").replace("k1", "k2"))).unwrap();
    gate.node.rooms.reauthorise().await;
    assert_eq!(bob.closed().await.0, 4001);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_leaves_a_region_leaves_nobody_behind() {
    let gate = gate(&acme("open = true\nregions = [\"eu\", \"us\"]"));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    let stranger = Opening { namespace: Some(NamespaceId::new("acme").unwrap()), ..opening("room", "bob", None) };
    let mut bob = Client::admit(&gate.entrance, stranger.clone()).unwrap();
    alice.join().await;
    bob.join().await;
    gate.namespaces.set(&config(&acme("open = true\nregions = [\"us\"]"))).unwrap();
    gate.node.rooms.reauthorise().await;
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.closed().await, (4001, "the namespace is not served here any more".to_owned()));
    }
    assert!(matches!(refused(&gate, stranger), AdmissionError::Forbidden(_)));
}

#[tokio::test]
async fn a_tenants_server_asks_where_its_token_and_tenant_are() {
    let gate = gate(&acme(""));
    let acme_id = || Some(NamespaceId::new("acme").unwrap());
    let ask = |change: Value| {
        let mut claims = json!({"room": null, "sub": null, "grants": {"admin": true}});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        gate.entrance.admit_admin(acme_id(), None, Some(&token(claims)))
    };
    for good in [json!({}), json!({"region": "eu"})] {
        assert_eq!(ask(good), Ok(()));
    }
    for forbidden in [json!({"region": "us"}), json!({"room": "room"}), json!({"grants": {}})] {
        assert!(matches!(ask(forbidden.clone()), Err(AdmissionError::Forbidden(_))), "{forbidden}");
    }
    gate.namespaces.set(&config(&acme("regions = [\"us\"]"))).unwrap();
    assert!(matches!(ask(json!({})), Err(AdmissionError::Forbidden(_))));
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_took_no_token_gives_back() {
    let gate = gate(&acme(""));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    alice.join().await;
    let room = RoomKey { namespace: NamespaceId::new("acme").unwrap(), room: RoomId::new("room").unwrap() };
    let grants = Grants { subscribe: false, publish: Publish::Everything(false), ..Grants::default() };
    let operation = Operation::SetGrants { peer: PeerId::new("alice").unwrap(), grants: Some(grants) };
    gate.node.rooms.operate(&room, operation).await.unwrap();
    alice.request("renewToken", json!({"token": token(json!({}))})).await.unwrap();
    let transport = alice.send_transport.clone();
    let audio = json!({"transportId": transport, "kind": "audio", "rtpParameters": rtp::opus(1)});
    assert_eq!(alice.request("produce", audio).await.unwrap_err().0, 403);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_replaced_under_its_name_ends_sessions_too() {
    let gate = gate(&acme(""));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    alice.join().await;
    gate.namespaces.set(&config(&acme("").replace("thirty", "twenty"))).unwrap();
    gate.node.rooms.reauthorise().await;
    assert_eq!(alice.closed().await.0, 4001);
}

#[tokio::test]
async fn an_open_node_gets_no_tenants_while_it_runs() {
    let namespaces = Namespaces::new(&NamespacesConfig::default(), Region::new("eu").unwrap()).unwrap();
    let error = namespaces.set(&config(&acme(""))).unwrap_err().to_string();
    assert!(error.contains("started again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_lost_all_tenants_ends_nothing() {
    let gate = gate(&acme(""));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    alice.join().await;
    let error = gate.namespaces.set(&config("")).unwrap_err().to_string();
    assert!(error.contains("no namespaces any more"), "{error}");
    gate.node.rooms.reauthorise().await;
    assert_eq!(alice.wait(SOON).await, None);
}

#[tokio::test]
async fn what_is_revoked_stays_so_when_its_tenant_was_away() {
    let gate = gate(&acme(""));
    let acme_id = NamespaceId::new("acme").unwrap();
    gate.namespaces.revoke(&acme_id, "stolen", None).unwrap();
    let stolen = || with(&token(json!({"jti": "stolen"})));
    assert_eq!(refused(&gate, stolen()), AdmissionError::Unauthorised(TokenError::Revoked));
    gate.namespaces.set(&config("[namespaces.other]\nopen = true")).unwrap();
    assert_eq!(refused(&gate, stolen()), AdmissionError::Unauthorised(TokenError::UnknownKey));
    assert!(gate.namespaces.revoke(&acme_id, "another", None).is_err(), "there is no such tenant");
    assert_eq!(gate.namespaces.overview().len(), 1);
    gate.namespaces.set(&config(&acme(""))).unwrap();
    assert_eq!(refused(&gate, stolen()), AdmissionError::Unauthorised(TokenError::Revoked));
}

#[test]
fn nodes_with_the_same_tenants_say_the_same() {
    let of = |toml: &str| Namespaces::new(&config(toml), Region::new("eu").unwrap()).unwrap().digest();
    let (one, other) = (acme(""), "[namespaces.other]\nopen = true\n");
    assert_eq!(of(""), OPEN);
    assert_eq!(of(&(one.clone() + other)), of(&(other.to_owned() + &one.replace("k1", "k2"))), "keys do not count");
    let different = [of(""), of(&one), of(&acme("open = true")), of(other), of(&(one + other))];
    assert_eq!(BTreeSet::from(different).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_same_identity_takes_its_place_without_a_secret_and_nobody_else_does() {
    let gate = gate(&acme("open = true"));
    let mut first = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    first.join().await;
    let stranger = Opening { namespace: Some(NamespaceId::new("acme").unwrap()), ..opening("room", "alice", None) };
    let mut stranger = Client::admit(&gate.entrance, stranger).unwrap();
    // Not even if the first is silent: who is named by a token gives way to nobody else.
    first.go_deaf();
    stranger.ask_to_join().await;
    assert_eq!(stranger.join_answer().await["errorCode"], 409);
    let mut second = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    second.join().await;
    assert_eq!(first.closed().await.0, 4000);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_places_and_gets_them_back() {
    let gate = gate(&acme("rooms = 1\npeers = 2\nproducers = 1\njoins_per_second = 3\ncodecs = [\"audio/opus\"]"));
    let of = |peer: &str, room: &str| Opening {
        room: RoomId::new(room).unwrap(),
        ..with(&token(json!({"sub": peer, "room": null})))
    };
    let mut alice = Client::admit(&gate.entrance, of("alice", "room")).unwrap();
    alice.join().await;
    assert!(matches!(gate.entrance.admit(of("bob", "another")).err(), Some(AdmissionError::Busy(_))), "one room");
    let mut bob = Client::admit(&gate.entrance, of("bob", "room")).unwrap();
    let capabilities = alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    let codecs: Vec<_> = capabilities["codecs"].as_array().unwrap().iter().map(|codec| &codec["mimeType"]).collect();
    assert_eq!(codecs, ["audio/opus"]);
    alice.produce("audio", rtp::opus(1)).await;
    let transport = alice.send_transport.clone();
    let produce = |kind: &str, rtp: Value| json!({"transportId": transport, "kind": kind, "rtpParameters": rtp});
    assert_eq!(alice.request("produce", produce("audio", rtp::opus(2))).await.unwrap_err().0, 403, "one producer");
    let refused = alice.request("produce", produce("video", rtp::vp8(3))).await.unwrap_err();
    assert_eq!(refused, (400, "video/VP8 is not allowed here".to_owned()));
    let carol = || Client::admit(&gate.entrance, of("carol", "room")).unwrap();
    assert_eq!(carol().closed().await, (1013, "too many come into the namespace at once".to_owned()));
    tokio::time::sleep(SOON).await;
    assert_eq!(carol().closed().await, (1013, ALL_PEERS.to_owned()));
    bob.request("join", join_data()).await.unwrap();
    bob.hang_up();
    alice.next_notification("peerClosed").await;
    carol().join().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenants_codecs_change_for_those_who_are_there_too() {
    let gate = gate(&acme("codecs = [\"audio/opus\"]"));
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    alice.join().await;
    alice.produce("audio", rtp::opus(1)).await;
    let video = json!({"transportId": alice.send_transport, "kind": "video", "rtpParameters": rtp::vp8(3)});
    let audio = json!({"transportId": alice.send_transport, "kind": "audio", "rtpParameters": rtp::opus(5)});
    assert_eq!(alice.request("produce", video.clone()).await.unwrap_err().0, 400);

    gate.namespaces.set(&config(&acme("codecs = [\"video/VP8\"]"))).unwrap();
    gate.node.rooms.reauthorise().await;
    let capabilities = alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    let codecs: Vec<_> = capabilities["codecs"].as_array().unwrap().iter().map(|codec| &codec["mimeType"]).collect();
    assert_eq!(codecs, ["video/VP8", "video/rtx"]);
    let refused = alice.request("produce", audio).await.unwrap_err();
    assert_eq!(refused, (400, "audio/opus is not allowed here".to_owned()));
    alice.request("produce", video).await.unwrap();
    assert_eq!(alice.wait(SOON).await, None, "what was begun goes on");
}

#[tokio::test(start_paused = true)]
async fn who_has_a_place_is_not_counted_twice() {
    let gate = gate(&acme("open = true\npeers = 1"));
    let namespace = || Some(NamespaceId::new("acme").unwrap());
    let mut alice = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    alice.join().await;
    // The network of the former is dead, and nobody has noticed.
    let mut again = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    again.join().await;
    assert_eq!(alice.closed().await.0, 4000);
    let stranger = || Opening { namespace: namespace(), ..opening("room", "bob", None) };
    assert!(matches!(gate.entrance.admit(stranger()).err(), Some(AdmissionError::Busy(_))));
    // What it shares it does not keep.
    let mut shares = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    shares.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    again.hang_up();
    tokio::time::sleep(SOON).await;
    let mut bob = Client::admit(&gate.entrance, stranger()).unwrap();
    bob.join().await;
    shares.ask_to_join().await;
    assert_eq!(shares.closed().await, (1013, ALL_PEERS.to_owned()));
    let shown = Opening { secret: Some(bob.secret.clone()), ..stranger() };
    Client::admit(&gate.entrance, shown).unwrap().join().await;
    assert_eq!(bob.closed().await.0, 4000);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_join_keeps_nobody_out_for_long() {
    let gate = gate(&acme("peers = 1"));
    let mut idle = Client::admit(&gate.entrance, with(&token(json!({})))).unwrap();
    assert_eq!(idle.wait(Duration::from_secs(29)).await, None);
    let bob = || Client::admit(&gate.entrance, with(&token(json!({"sub": "bob"})))).unwrap();
    assert_eq!(bob().closed().await, (1013, ALL_PEERS.to_owned()));
    assert_eq!(idle.wait(Duration::from_secs(2)).await, None);
    let mut bob = bob();
    bob.join().await;
    idle.ask_to_join().await;
    assert_eq!(idle.closed().await, (1013, ALL_PEERS.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_too_much_traffic_begins_nothing_until_it_has_less() {
    let gate = gate(&acme("bitrate = 1_000_000"));
    let usage = gate.node.rooms.events().usage().clone();
    let account = usage.account(&NamespaceId::new("acme").unwrap());
    let mut sent = 0;
    let mut pass = async |bits_per_second: u64| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        sent += bits_per_second / 8 * 2;
        let traffic = vec![(account, Traffic { received: sent / 3, sent: sent - sent / 3 })];
        usage.set_traffic(&[(0, WorkerSnapshot { traffic, ..WorkerSnapshot::default() })]);
        gate.namespaces.note_traffic(&usage.totals());
    };
    let of = |peer: &str| with(&token(json!({"sub": peer})));
    pass(0).await;
    let mut alice = Client::admit(&gate.entrance, of("alice")).unwrap();
    alice.join().await;
    let mut bob = Client::admit(&gate.entrance, of("bob")).unwrap();
    bob.join().await;
    alice.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    pass(5_000_000).await;
    let carol = || Client::admit(&gate.entrance, of("carol")).unwrap();
    let (code, refused) = carol().closed().await;
    assert!(code == 1013 && refused.contains("sends and receives"), "{refused}");
    let transport = alice.send_transport.clone();
    let video = json!({"transportId": transport, "kind": "video", "rtpParameters": rtp::vp8(2)});
    assert_eq!(alice.request("produce", video.clone()).await.unwrap_err().0, 403);
    assert_eq!(tokio::join!(alice.wait(SOON), bob.wait(SOON)), (None, None), "those inside keep what they have");
    pass(100_000).await;
    alice.request("produce", video).await.unwrap();
    bob.accept_consumer().await;
    carol().join().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_token_says_of_a_peer_is_told_on() {
    let world = World::default();
    let gate = gate_in(&world, "eu-1", &acme(""));
    let other = TestNode::start(&world, "us-1", 1);
    world.link_up(&gate.node.instance, &other.instance);
    let said = |name: &str, team: u32| token(json!({"name": name, "metadata": {"team": team}}));
    let mut alice = Client::admit(&gate.entrance, with(&said("Alice", 7))).unwrap();
    let mut bob = Client::admit(&gate.entrance, with(&token(json!({"sub": "bob"})))).unwrap();
    // Everything is open there.
    let acme = Some(NamespaceId::new("acme").unwrap());
    let mut carol =
        Client::admit(&entrance(&other.rooms), Opening { namespace: acme, ..opening("room", "carol", None) }).unwrap();
    for client in [&mut alice, &mut bob, &mut carol] {
        client.join().await;
    }
    bob.settle().await;
    for (name, old, team) in [("Alicia", "Alice", 7), ("Alicia", "Alicia", 8)] {
        alice.request("renewToken", json!({"token": said(name, team)})).await.unwrap();
        let expected =
            json!({"peerId": "alice", "displayName": name, "oldDisplayName": old, "metadata": {"team": team}});
        for client in [&mut bob, &mut carol] {
            assert_eq!(client.next_notification("peerDisplayNameChanged").await, expected);
        }
    }
    alice.request("renewToken", json!({"token": said("Alicia", 8)})).await.unwrap();
    assert_eq!(bob.settle().await, Vec::<Value>::new(), "nothing is new");
}

#[tokio::test(start_paused = true)]
async fn who_is_hidden_is_on_no_stage() {
    let gate = gate(&acme(""));
    let hidden = |hidden: bool| json!({"sub": "ghost", "grants": {"stage": true, "hidden": hidden}});
    let mut ghost = Client::admit(&gate.entrance, with(&token(hidden(true)))).unwrap();
    let mut bob = Client::admit(&gate.entrance, with(&token(json!({"sub": "bob"})))).unwrap();
    ghost.join().await;
    bob.join().await;
    let listed = bob.request("getPeers", json!({})).await.unwrap();
    assert_eq!(
        (&listed["total"], &listed["stage"], listed["peers"].as_array().unwrap().len()),
        (&json!(1), &json!(0), 1)
    );
    assert_eq!(
        (&listed["hidden"], &listed["peers"][0]["hidden"]),
        (&Value::Null, &Value::Null),
        "clients know of none"
    );
    let room = RoomKey { namespace: NamespaceId::new("acme").unwrap(), room: RoomId::new("room").unwrap() };
    let rooms = &gate.node.rooms;
    let (page, overview) = (rooms.peers(&room, None, None).await, rooms.overview(None, None, None).await);
    for seen in [json!(page), json!(overview)["rooms"][0].clone()] {
        assert_eq!((&seen["total"], &seen["hidden"]), (&json!(1), &json!(1)), "operators know of all");
        let peers: Vec<_> =
            seen["peers"].as_array().unwrap().iter().map(|peer| (&peer["id"], &peer["hidden"])).collect();
        assert_eq!(peers, [(&json!("bob"), &Value::Null), (&json!("ghost"), &json!(true))]);
    }
    ghost.request("renewToken", json!({"token": token(hidden(false))})).await.unwrap();
    assert_eq!(bob.next_notification("newPeer").await["id"], "ghost");
    let listed = bob.request("getPeers", json!({})).await.unwrap();
    assert_eq!((&listed["total"], &listed["stage"]), (&json!(2), &json!(1)));
}
