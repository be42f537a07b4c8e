//! The cluster's CA: certificates come back from PEM, and say who a node is.
#![cfg(feature = "io")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice_mesh::ca::{CaError, ClusterCa, server_name};
use sluice_proto::ids::NodeId;
use x509_parser::extensions::GeneralName;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_certificate_has_both_names_and_its_validity() {
    let ca = ClusterCa::create("prod.example", DAY * 365).unwrap();
    let again = ClusterCa::from_pem(ca.cert_pem(), ca.key_pem()).unwrap();
    assert_eq!(again.cluster(), "prod.example");
    let node = NodeId::new("eu-1").unwrap();
    let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 7));
    let issued = again.issue(&node, &[address], DAY * 30).unwrap();

    let (_, pem) = x509_parser::pem::parse_x509_pem(issued.cert_pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(names.contains(&GeneralName::DNSName("mesh.prod.example")), "{names:?}");
    assert!(names.contains(&GeneralName::URI("sluice:node/eu-1")), "{names:?}");
    assert!(names.contains(&GeneralName::IPAddress(&[192, 0, 2, 7])), "{names:?}");
    let validity = certificate.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 30 * 86_400 + 3600);
    assert!(!certificate.is_ca());
    assert_eq!(sluice_mesh::ca::node_of(&pem.contents).unwrap(), node);
    assert_eq!(server_name(again.cluster()), "mesh.prod.example");

    let (_, ca_pem) = x509_parser::pem::parse_x509_pem(ca.cert_pem().as_bytes()).unwrap();
    let authority = ca_pem.parse_x509().unwrap();
    certificate.verify_signature(Some(authority.public_key())).unwrap();
    assert!(authority.is_ca());
    assert!(sluice_mesh::ca::node_of(&ca_pem.contents).is_err());
}

#[test]
fn what_is_no_ca_is_refused() {
    for name in ["", "Prod", "a..b", "-a", "a b", &"x".repeat(64)] {
        assert!(matches!(ClusterCa::create(name, DAY), Err(CaError::ClusterName(_))), "{name:?}");
    }
    let (one, other) = (ClusterCa::create("one", DAY).unwrap(), ClusterCa::create("other", DAY).unwrap());
    let mixed = ClusterCa::from_pem(one.cert_pem(), other.key_pem()).err().unwrap();
    assert_eq!(mixed.to_string(), "cannot read the CA: certificate and key do not belong together");
    let issued = one.issue(&NodeId::new("a").unwrap(), &[], DAY).unwrap();
    assert!(matches!(ClusterCa::from_pem(&issued.cert_pem, &issued.key_pem), Err(CaError::Read(_))));
    assert!(matches!(ClusterCa::from_pem("nonsense", one.key_pem()), Err(CaError::Read(_))));
}
