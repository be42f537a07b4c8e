//! Certificates that are replaced while the program runs.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::support::{Process, eventually, free_base_port, is_ready, local, sluice};

/// Writes a certificate for localhost with its key, and returns it.
fn issue(dir: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("users.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("users.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// A TLS connection to a port, if what is shown there is this certificate.
fn connect(port: u16, certificate: &CertificateDer<'static>) -> Option<(ClientConnection, TcpStream)> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = TcpStream::connect(local(port)).ok()?;
    tls.complete_io(&mut stream).ok()?;
    (!tls.is_handshaking()).then_some((tls, stream))
}

/// A node that serves users over HTTPS.
fn start(dir: &Path) -> (Process, u16) {
    let port = free_base_port(1);
    let listens = [("users", 0), ("media", 1), ("mesh", 2), ("grpc", 3)];
    let mut args: Vec<String> = vec!["node".into(), "--workers=1".into()];
    args.extend(listens.map(|(section, offset)| format!("--{section}-listen={}", local(port + offset))));
    args.push(format!("--admin-listen={}", local(port - 3)));
    args.push(format!("--users-tls-cert={}", dir.join("users.pem").display()));
    args.push(format!("--users-tls-key={}", dir.join("users.key").display()));
    let node = Process::spawn(&args.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the node is ready", || is_ready(port - 3).then_some(()));
    (node, port)
}

#[test]
fn a_new_certificate_is_shown_after_a_hangup_and_connections_stay() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let old = issue(dir.path());
    let (node, port) = start(dir.path());
    let (mut tls, mut stream) = connect(port, &old).expect("the first certificate");
    let new = issue(dir.path());
    node.signal("HUP");
    eventually("the new certificate is shown", || connect(port, &new).map(drop));
    assert!(connect(port, &old).is_none());
    // A connection from before goes on.
    let mut old_connection = rustls::Stream::new(&mut tls, &mut stream);
    old_connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The server may close without a close_notify.
    let _ = old_connection.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path());
    let (_node, port) = start(dir.path());
    let new = issue(dir.path());
    eventually("the new certificate is shown", || connect(port, &new).map(drop));
}

#[test]
fn a_bad_file_leaves_the_old_certificate_in_use_and_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let old = issue(dir.path());
    let (node, port) = start(dir.path());
    for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(dir.path().join("users.pem"), bad).unwrap();
        let before = node.log().matches("what was renewed cannot be used").count();
        node.signal("HUP");
        eventually("an error is logged", || {
            (node.log().matches("what was renewed cannot be used").count() > before).then_some(())
        });
        assert!(connect(port, &old).is_some(), "{bad:?}");
    }
    std::fs::remove_file(dir.path().join("users.pem")).unwrap();
    node.signal("HUP");
    eventually("an error is logged", || node.log().contains("No such file").then_some(()));
    assert!(connect(port, &old).is_some());
}

#[test]
fn a_hangup_while_the_program_starts_does_not_end_it() {
    let port = free_base_port(1);
    let listens = ["users", "admin", "media", "mesh", "grpc"].iter().zip(port - 3..);
    let listens: Vec<String> = listens.map(|(section, port)| format!("--{section}-listen={}", local(port))).collect();
    let mut node = sluice(&[]).args(["node", "--workers=1"]).args(listens).spawn().unwrap();
    eventually("the node is ready", || {
        // Until its handler is there the program may be ended by the signal, as any that has just begun.
        is_ready(port - 3).then_some(())
    });
    for _ in 0..10 {
        assert!(std::process::Command::new("kill").args(["-HUP", &node.id().to_string()]).status().unwrap().success());
    }
    assert!(is_ready(port - 3));
    assert!(node.try_wait().unwrap().is_none());
    node.kill().unwrap();
    node.wait().unwrap();
}
