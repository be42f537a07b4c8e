//! The command line, without a node.

use crate::support::{run, sluice, text};

#[test]
fn the_version_is_told() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).trim(), format!("sluice {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn nothing_asked_is_answered_with_help() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let help = text(&output.stderr);
    for verb in ["node", "dev", "config", "ca"] {
        assert!(help.contains(verb), "{help}");
    }
}

#[test]
fn the_sample_is_printed() {
    let output = run(&["config", "sample"]);
    assert!(output.status.success());
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sluice.sample.toml")).unwrap();
    assert_eq!(text(&output.stdout), file);
}

#[test]
fn settings_are_checked_from_file_flags_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "id = \"eu-7\"\n").unwrap();
    let mut command = sluice(&["config", "check", "--region", "eu", "--insecure-open", "--users-listen", "0.0.0.0:80"]);
    let output = command.env("SLUICE_CONFIG", &file).env("SLUICE_MEDIA_ANNOUNCED", "203.0.113.7").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "ok: node eu-7 in region eu, users at http://203.0.113.7:80\n");
}

#[test]
fn flags_of_lists_can_be_given_several_times() {
    let pem = ["--mesh-ca", "a", "--mesh-cert", "b", "--mesh-key", "c"];
    let seeds = ["--cluster-seeds", "a:1,b:2", "--cluster-seeds", "c:3"];
    let output = run(&[&["config", "check"][..], &pem, &seeds].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&[&["config", "check"][..], &pem, &seeds, &["--cluster-seeds", "d"]].concat());
    let message = text(&output.stderr);
    assert!(message.starts_with("error: cluster.seeds = \"a:1,b:2,c:3,d\""), "{message}");
}

#[test]
fn a_name_that_stands_for_no_address_is_told_with_its_setting() {
    let listens = ["users", "admin", "media", "mesh", "grpc"].map(|section| format!("--{section}-listen=127.0.0.1:0"));
    let mut args = vec!["node", "--media-announced", "sfu.invalid"];
    args.extend(listens.iter().map(String::as_str));
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("media.announced = \"sfu.invalid\": the name cannot be resolved"), "{message}");
}

#[test]
fn a_wrong_setting_is_one_line_and_exit_code_2() {
    for verb in [&["config", "check"][..], &["node"]] {
        let output = run(&[verb, &["--workers", "1000"]].concat());
        assert_eq!(output.status.code(), Some(2));
        let expected = "error: workers = \"1000\" (from a flag): allowed is an integer from 0 to 256\n";
        assert_eq!(text(&output.stderr), expected);
    }
}

#[test]
fn a_ca_and_its_certificates_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let issue = ["ca", "issue", "--node", "eu-1", "--dir", path];
    let output = run(&issue);
    assert_eq!(output.status.code(), Some(1), "there is no CA yet");
    assert!(text(&output.stderr).contains("ca.pem"), "{}", text(&output.stderr));

    for command in [&["ca", "init", "--dir", path][..], &issue] {
        let output = run(command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let again = run(command);
        assert_eq!(again.status.code(), Some(1));
        assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
    }
    for key in ["ca.key", "eu-1.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    for certificate in ["ca.pem", "eu-1.pem"] {
        let pem = std::fs::read_to_string(dir.path().join(certificate)).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    }
}

#[test]
fn a_node_id_that_is_no_name_gets_no_certificate() {
    let output = run(&["ca", "issue", "--node", "../eu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'/'"), "{}", text(&output.stderr));
}
