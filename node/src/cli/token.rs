//! `sluice token`: makes a token as a tenant's own server would, by a key of the node's configuration.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value};
use sluice_proto::ids::{NamespaceId, PeerId, Region};

use super::{Failure, config_file, load};
use crate::access::token::{Claims, sign};
use crate::access::{Grants, Publish};
use crate::config::{KeyAlgorithm, KeyConfig, NodeConfig};
use crate::support::{random_text, unix_ms};

/// Characters of an id that nobody chose: 80 bits.
const ID_LEN: usize = 16;

/// The grants that are on or off.
const SWITCHES: [&str; 5] = ["subscribe", "publishData", "hidden", "stage", "admin"];

pub(super) fn command() -> Command {
    let text = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Command::new("token")
        .about("Make a token by which somebody may enter rooms, and print it alone on a line")
        .arg(config_file())
        .arg(
            text("namespace", "NAME")
                .required(true)
                .value_parser(value_parser!(NamespaceId))
                .help("The tenant, one of the file's"),
        )
        .arg(text("room", "ROOM").help("The room, or a pattern in which * is any text; without it all rooms"))
        .arg(
            text("identity", "PEER")
                .value_parser(value_parser!(PeerId))
                .help("Whose it is: the peer's id; without it the client chooses one"),
        )
        .arg(text("name", "NAME").help("The display name, instead of what the client says"))
        .arg(text("metadata", "JSON").value_parser(object).help("A JSON object that others are told of"))
        .arg(
            text("region", "REGION")
                .value_parser(value_parser!(Region))
                .help("Nodes of which region let it in; without it all"),
        )
        .arg(
            text("ttl", "TIME")
                .default_value("1h")
                .value_parser(humantime::parse_duration)
                .help("How long it is valid, such as 30m or 1h 30m"),
        )
        .arg(text("grant", "GRANT").action(ArgAction::Append).help(
            "What it allows beside what people in a meeting need: publish=audio, publish=video:screensharing (only these; can be \
             given several times), publish=false, subscribe=false, publishData=false, hidden, stage, admin",
        ))
        .arg(text("id", "ID").help("By which it can be revoked; without it a random one"))
        .arg(text("key", "ID").help("The key to sign with; without it the namespace's first"))
        .arg(
            text("private-key", "FILE")
                .value_parser(value_parser!(PathBuf))
                .help("PEM of an ES256 or EdDSA key, of which the configuration has the public half"),
        )
}

pub(super) fn run(args: &ArgMatches) -> Result<(), Failure> {
    let config = load(args)?;
    let namespace: &NamespaceId = args.get_one("namespace").expect("is required");
    let key = key(&config, namespace, args.get_one::<String>("key"))?;
    let signer = signer(key, args.get_one::<PathBuf>("private-key"))?;
    let text = |name| args.get_one::<String>(name).cloned();
    let now = unix_ms() / 1000;
    let ttl = args.get_one::<Duration>("ttl").expect("has a default");
    let claims = Claims {
        namespace: Some(namespace.clone()),
        room: text("room"),
        sub: args.get_one::<PeerId>("identity").cloned(),
        name: text("name"),
        metadata: args.get_one::<Map<String, Value>>("metadata").cloned(),
        region: args.get_one::<Region>("region").cloned(),
        grants: grants(args.get_many::<String>("grant").into_iter().flatten()).map_err(Failure::usage)?,
        exp: now.saturating_add(ttl.as_secs()),
        nbf: None,
        iat: Some(now),
        jti: Some(text("id").unwrap_or_else(|| random_text(ID_LEN))),
    };
    println!("{}", sign(&claims, &key.id, key.algorithm, &signer).map_err(Failure::usage)?);
    Ok(())
}

fn key<'a>(config: &'a NodeConfig, namespace: &NamespaceId, id: Option<&String>) -> Result<&'a KeyConfig, Failure> {
    let known = config.namespaces.by_name.get(namespace);
    let known = known.ok_or_else(|| Failure::usage(format!("the configuration has no [namespaces.{namespace}]")))?;
    let found = match id {
        Some(id) => known.keys.iter().find(|key| key.id == *id),
        None => known.keys.first(),
    };
    found.ok_or_else(|| match id {
        Some(id) => Failure::usage(format!("namespaces.{namespace} has no key {id:?}")),
        None => Failure::usage(format!("namespaces.{namespace} has no keys")),
    })
}

fn signer(key: &KeyConfig, private_key: Option<&PathBuf>) -> Result<EncodingKey, Failure> {
    if key.algorithm == KeyAlgorithm::HS256 {
        let secret = key.secret.as_ref().map(|secret| secret.reveal()).unwrap_or_default();
        return Ok(EncodingKey::from_secret(secret.as_bytes()));
    }
    let path = private_key.ok_or_else(|| {
        Failure::usage(format!("the key {:?} is {:?}: --private-key is needed to sign with it", key.id, key.algorithm))
    })?;
    let pem = std::fs::read(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let signer = match key.algorithm {
        KeyAlgorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
        KeyAlgorithm::ES256 | KeyAlgorithm::HS256 => EncodingKey::from_ec_pem(&pem),
    };
    signer.map_err(|error| {
        Failure::usage(format!("{}: no private key (PKCS #8) of {:?}: {error}", path.display(), key.algorithm))
    })
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Out of `NAME`, `NAME=true`, `NAME=false`, and of `publish=MEDIUM`.
fn grants<'a>(given: impl Iterator<Item = &'a String>) -> Result<Grants, String> {
    let mut grants = Grants::default();
    for text in given {
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        let switch = || value.parse().map_err(|_| format!("{text:?}: {name} is true or false"));
        match name {
            "publish" => match (value.parse(), &mut grants.publish) {
                (Ok(everything), publish) => *publish = Publish::Everything(everything),
                (Err(_), Publish::Only(media)) => media.push(value.parse()?),
                (Err(_), publish) => *publish = Publish::Only(vec![value.parse()?]),
            },
            "subscribe" => grants.subscribe = switch()?,
            "publishData" => grants.publish_data = switch()?,
            "hidden" => grants.hidden = switch()?,
            "stage" => grants.stage = switch()?,
            "admin" => grants.admin = switch()?,
            _ => return Err(format!("{text:?} is no grant: there are publish, {}", SWITCHES.join(", "))),
        }
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[&str]) -> Result<Grants, String> {
        grants(given.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().iter())
    }

    #[test]
    fn grants_are_given_one_by_one() {
        assert_eq!(parse(&[]), Ok(Grants::default()));
        let only = parse(&["publish=audio", "publish=video:screensharing", "admin", "subscribe=false"]).unwrap();
        let text = serde_json::to_value(&only).unwrap();
        assert_eq!(text["publish"], serde_json::json!(["audio", "video:screensharing"]));
        assert!(only.admin && !only.subscribe && !only.hidden);
        assert_eq!(parse(&["publish=false"]).unwrap().publish, Publish::Everything(false));
        for nonsense in ["fly", "admin=perhaps", "publish=smell", ""] {
            assert!(parse(&[nonsense]).is_err(), "{nonsense}");
        }
    }
}
