//! What users' traffic is counted as.

use std::time::Duration;

use sluice_media::messages::{Account, Request, Traffic};
use sluice_media::secure::srtp::SrtpProfile;

use crate::core::{Core, Stream, header};

#[test]
fn an_account_has_the_bytes_of_its_transports_also_of_those_that_are_closed() {
    let mut core = Core::new(0);
    let (mut publisher, receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Opus);
    core.consume(&receiver, producer, Stream::Opus);
    for number in 0..50 {
        core.advance(Duration::from_millis(20));
        core.rtp(&mut publisher, header(Stream::Opus, number, 0), &[7; 100]);
    }
    let snapshot = core.snapshot();
    let [(account, open)] = snapshot.traffic[..] else { panic!("{:?}", snapshot.traffic) };
    assert_eq!(account, Account(0));
    assert_eq!(open, Traffic { received: snapshot.bytes_received, sent: snapshot.bytes_sent });
    assert!(open.received > 50 * 100 && open.sent > 50 * 100, "{open:?}");

    core.request(Request::CloseTransport { transport: publisher.transport });
    core.request(Request::CloseTransport { transport: receiver.transport });
    let snapshot = core.snapshot();
    let [(_, closed)] = snapshot.traffic[..] else { panic!("{:?}", snapshot.traffic) };
    assert_eq!(closed.received, open.received);
    assert!(closed.sent >= open.sent, "goodbyes count");
    assert_eq!(closed.sent, snapshot.bytes_sent);
}
