//! Each kind of wrong setting is told in one line that names the setting, the value and what is allowed.

use std::ffi::OsString;

use super::settings::settings;
use super::{ConfigError, NamespacesConfig, NodeConfig, Pem, Sources, sample};

fn load_file(toml: &str) -> Result<NodeConfig, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, toml).unwrap();
    NodeConfig::load(&Sources { file: Some(path), ..Sources::default() })
}

fn load_flags(flags: &[(&'static str, &str)]) -> Result<NodeConfig, ConfigError> {
    let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    NodeConfig::load(&Sources { flags, ..Sources::default() })
}

fn load_env(env: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
    let env = env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value))).collect();
    NodeConfig::load(&Sources { env, ..Sources::default() })
}

#[track_caller]
fn assert_refused(result: Result<NodeConfig, ConfigError>, parts: &[&str]) {
    let message = result.expect_err("refused").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn defaults_are_valid_and_on_loopback() {
    let config = NodeConfig::load(&Sources::default()).unwrap();
    for addr in [config.users.listen, config.admin.listen, config.media.listen, config.mesh.listen, config.grpc.listen]
    {
        assert!(addr.ip().is_loopback(), "{addr}");
    }
}

#[test]
fn every_setting_is_read_from_all_three_sources() {
    for setting in settings() {
        // Together with whatever would contradict it; only the reading is looked at.
        let name = setting.key.rsplit('.').next().unwrap();
        let toml = match setting.key.split_once('.') {
            Some((section, _)) => format!("[{section}]\n{name} = {}\n", setting.sample),
            None => format!("{name} = {}\n", setting.sample),
        };
        let text = setting.sample.trim_matches(['[', ']']).replace('"', "");
        for result in [load_file(&toml), load_env(&[(&setting.env, &text)]), load_flags(&[(setting.key, &text)])] {
            if let Err(error) = result {
                let error = error.to_string();
                assert!(error.contains("set only together with"), "{}: {error}", setting.key);
            }
        }
    }
}

#[test]
fn a_flag_overrides_a_variable_and_that_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "id = \"file\"\nregion = \"file\"\nzone = \"file\"\n").unwrap();
    let sources = Sources {
        file: Some(path),
        env: vec![("SLUICE_REGION".into(), "env".into()), ("SLUICE_ZONE".into(), "env".into())],
        flags: vec![("zone", "flag".into())],
    };
    let config = NodeConfig::load(&sources).unwrap();
    assert_eq!((config.id.as_str(), config.region.as_str(), config.zone.as_str()), ("file", "env", "flag"));
}

#[test]
fn lists_are_arrays_or_comma_separated() {
    let certificates = "[mesh]\nca = \"a\"\ncert = \"b\"\nkey = \"c\"\n";
    let file = load_file(&format!("{certificates}[cluster]\nseeds = [\"a:1\", \"[::1]:2\"]\n")).unwrap();
    let pem = [("SLUICE_MESH_CA", "a"), ("SLUICE_MESH_CERT", "b"), ("SLUICE_MESH_KEY", "c")];
    let env = load_env(&[pem[0], pem[1], pem[2], ("SLUICE_CLUSTER_SEEDS", "a:1, [::1]:2")]).unwrap();
    for config in [file, env] {
        let seeds: Vec<_> = config.cluster.seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["a:1", "[::1]:2"]);
    }
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    assert_refused(load_file("[users]\nlisen = \"x\"\n"), &["users.lisen", "node.toml", "did you mean users.listen?"]);
    assert_refused(load_file("[user]\nlisten = \"x\"\n"), &["user", "unknown setting"]);
    assert_refused(load_file("frobnicate = 1\n"), &["frobnicate", "unknown setting", "sluice config sample"]);
    assert_refused(load_env(&[("SLUICE_USERS_LISEN", "x")]), &["SLUICE_USERS_LISEN", "SLUICE_USERS_LISTEN"]);
}

#[test]
fn a_section_that_is_no_table_is_refused() {
    assert_refused(load_file("users = 3\n"), &["users", "unknown setting"]);
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    assert_refused(load_file("workers = \"many\"\n"), &["workers", "\"many\"", "an integer from 0 to 256"]);
    assert_refused(load_flags(&[("media.listen", "4444")]), &["media.listen", "\"4444\"", "a flag", "127.0.0.1:4443"]);
    assert_refused(
        load_env(&[("SLUICE_INSECURE_OPEN", "perhaps")]),
        &["insecure_open", "\"perhaps\"", "true or false"],
    );
    assert_refused(load_file("[telemetry]\nformat = \"xml\"\n"), &["telemetry.format", "\"xml\"", "\"json\""]);
    assert_refused(load_file("[users]\nurl = \"ftp://x\"\n"), &["users.url", "\"ftp://x\"", "https://"]);
    assert_refused(load_file("id = [\"a\"]\n"), &["id", "list", "letters"]);
}

#[test]
fn values_out_of_range_are_refused() {
    assert_refused(load_file("workers = 257\n"), &["workers", "\"257\"", "an integer from 0 to 256"]);
    assert_refused(load_file("priority = -1\n"), &["priority", "\"-1\"", "from 0 to 1000"]);
    let flags = [("users.header_timeout_ms", "99")];
    assert_refused(load_flags(&flags), &["users.header_timeout_ms", "\"99\"", "from 100 to 600000"]);
}

#[test]
fn a_file_that_is_no_toml_is_refused_in_one_line() {
    assert_refused(load_file("id = \n[[["), &["node.toml"]);
    assert_refused(
        NodeConfig::load(&Sources { file: Some("/nowhere/node.toml".into()), ..Sources::default() }),
        &["/nowhere/node.toml", "no such file"],
    );
}

#[test]
fn half_a_certificate_is_refused() {
    assert_refused(load_flags(&[("users.tls_cert", "a.pem")]), &["users.tls_cert", "a.pem", "users.tls_key"]);
    assert_refused(load_flags(&[("users.tls_key", "a.key")]), &["users.tls_key", "a.key", "users.tls_cert"]);
    assert_refused(load_flags(&[("mesh.ca", "a"), ("mesh.cert", "b")]), &["mesh.ca", "\"a\"", "mesh.key"]);
    assert_refused(load_flags(&[("cluster.seeds", "a:1")]), &["cluster.seeds", "a:1", "mesh.ca"]);
}

#[test]
fn users_beyond_loopback_need_insecure_open() {
    let listen = ("users.listen", "192.0.2.1:4443");
    assert_refused(load_flags(&[listen]), &["users.listen", "192.0.2.1:4443", "--insecure-open"]);
    assert!(load_flags(&[listen, ("insecure_open", "true")]).is_ok());
}

#[test]
fn operators_beyond_loopback_need_a_token_or_a_switch() {
    let listen = ("admin.listen", "0.0.0.0:4440");
    assert_refused(load_flags(&[listen]), &["admin.listen", "0.0.0.0:4440", "admin.token", "--admin-insecure-open"]);
    assert!(load_flags(&[listen, ("admin.token", "0123456789abcdef")]).is_ok());
    assert!(load_flags(&[listen, ("admin.insecure_open", "true")]).is_ok());
    assert_refused(load_flags(&[("admin.token", "short")]), &["admin.token", "16 to 512"]);
}

#[test]
fn nobody_is_told_an_unspecified_address() {
    for section in ["media", "mesh", "grpc"] {
        let listen: &'static str = format!("{section}.listen").leak();
        let announced: &'static str = format!("{section}.announced").leak();
        assert_refused(load_flags(&[(listen, "0.0.0.0:9")]), &[listen, "0.0.0.0:9", announced]);
        assert_refused(load_flags(&[(announced, "0.0.0.0")]), &[announced, "0.0.0.0", "others can reach"]);
        assert_refused(load_flags(&[(announced, "[::]:5")]), &[announced, "[::]:5", "others can reach"]);
        assert!(load_flags(&[(listen, "0.0.0.0:9"), (announced, "203.0.113.7")]).is_ok());
    }
}

#[test]
fn two_sockets_cannot_have_one_port() {
    let clash = load_flags(&[("admin.listen", "127.0.0.1:4443")]);
    assert_refused(clash, &["admin.listen", "127.0.0.1:4443", "users.listen has already"]);
    let clash = load_flags(&[("mesh.listen", "0.0.0.0:4444"), ("mesh.announced", "203.0.113.7")]);
    assert_refused(clash, &["mesh.listen", "0.0.0.0:4444", "media.listen has already"]);
    assert!(load_flags(&[("mesh.listen", "127.0.0.1:4443")]).is_ok(), "TCP and UDP do not clash");
    assert!(load_flags(&[("media.listen", "127.0.0.1:4443")]).is_ok(), "media find their way from the users' port");
    let clash = load_flags(&[("media.listen", "0.0.0.0:4443"), ("media.announced", "203.0.113.7")]);
    assert_refused(clash, &["media.listen", "0.0.0.0:4443", "users.listen has already"]);
    let all = |users, media| {
        let announced = ("media.announced", "203.0.113.7");
        load_flags(&[("users.listen", users), ("media.listen", media), announced, ("insecure_open", "true")])
    };
    assert!(all("0.0.0.0:443", "192.0.2.1:443").is_ok() && all("[::]:443", "0.0.0.0:443").is_ok());
    assert_refused(all("0.0.0.0:443", "[::]:443"), &["media.listen", "[::]:443", "users.listen has already"]);
    assert!(load_flags(&[("admin.listen", "127.0.0.1:0"), ("users.listen", "127.0.0.1:0")]).is_ok());
}

#[test]
fn a_client_may_be_silent_for_longer_than_between_pings() {
    let silence = load_flags(&[("limits.silence_ms", "5000"), ("limits.ping_interval_ms", "5000")]);
    assert_refused(silence, &["limits.silence_ms", "\"5000\"", "limits.ping_interval_ms"]);
    assert!(load_flags(&[("limits.silence_ms", "5001"), ("limits.ping_interval_ms", "5000")]).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
    let error = load_flags(&[("users.tls_key", key)]).unwrap_err().to_string();
    assert!(!error.contains("c2VjcmV0"), "{error}");
    let shown = format!("{:?}", Pem::Text(key.to_owned()));
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
}

#[test]
fn the_sample_file_is_the_one_in_deploy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sluice.sample.toml");
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(file, sample(), "run `sluice config sample > deploy/sluice.sample.toml`");
}

#[test]
fn the_sample_without_its_comment_signs_is_the_defaults() {
    let set = |line: &str| {
        line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ") && !line.ends_with("# unset")
    };
    let lines =
        sample().lines().map(|line| if set(line) { line[1..].to_owned() } else { line.to_owned() }).collect::<Vec<_>>();
    let mut config = load_file(&lines.join("\n")).unwrap();
    assert!(config.namespaces.by_name.is_empty());
    // It remembers its file.
    config.namespaces = NamespacesConfig::default();
    assert_eq!(format!("{config:?}"), format!("{:?}", NodeConfig::default()));
}
