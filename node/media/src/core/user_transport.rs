//! A user's transport with the media that run over it: producers of what it receives, consumers of what it sends, and the state
//! that belongs to all of them together.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::TransportId;

use crate::clock::Clock;
use crate::core::timers::Timer;
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, ProducerKey, RouterKey};
use crate::stream::header_template::Stamp;
use crate::stream::sent_packets::Sealed;
use crate::transport::retransmission_budget::RetransmissionBudget;
use crate::transport::rtp_listener::RtpListener;
use crate::transport::transport_feedback_generator::TransportFeedbackGenerator;
use crate::transport::webrtc_transport::WebRtcTransport;
use crate::wire::rtcp::TransportFeedback;
use crate::wire::rtp::ExtensionIds;

/// Time between two rounds of reports. Shorter than mediasoup's for audio (5 s), so that lip sync is right soon.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A user's transport.
pub(crate) struct UserTransport {
    /// Its id.
    pub id: TransportId,
    /// The room's media on this worker.
    pub router: RouterKey,
    /// ICE, DTLS and SRTP.
    pub webrtc: WebRtcTransport,
    /// Whether media could be sent when that was looked at last.
    pub writable: bool,
    /// Has something to flush.
    pub dirty: bool,
    /// What the client sends.
    pub producers: Vec<ProducerKey>,
    /// What the client receives.
    pub consumers: Vec<ConsumerKey>,
    /// By SSRC, retransmissions' too.
    pub consumers_by_ssrc: FxHashMap<u32, ConsumerKey>,
    /// Finds the producer of a packet.
    pub listener: RtpListener,
    /// The client's ids.
    pub extension_ids: ExtensionIds,
    /// From the first producer with transport-wide numbers on.
    pub feedback: Option<Box<TransportFeedbackGenerator>>,
    /// SSRC of the last packet, which feedback has to name.
    pub feedback_ssrc: u32,
    /// What this end calls itself in reports and feedback.
    pub rtcp_ssrc: u32,
    /// Next round of reports; `None` while there is nothing to report.
    pub reports_at: Option<Instant>,
    /// Wakes it up.
    pub timer: Timer,
    transport_wide_seq: u16,
    retransmissions: RetransmissionBudget,
    downlink: Downlink,
}

/// What the client's transport-wide feedback says about the way to it.
#[derive(Debug, Default)]
struct Downlink {
    received: u64,
    lost: u64,
    /// Of the last whole report interval.
    loss: Option<f32>,
}

impl UserTransport {
    /// A transport without media.
    pub(crate) fn new(id: TransportId, router: RouterKey, webrtc: WebRtcTransport, rtcp_ssrc: u32) -> Self {
        Self {
            id,
            router,
            webrtc,
            writable: false,
            dirty: false,
            producers: Vec::new(),
            consumers: Vec::new(),
            consumers_by_ssrc: FxHashMap::default(),
            listener: RtpListener::default(),
            extension_ids: ExtensionIds::default(),
            feedback: None,
            feedback_ssrc: 0,
            rtcp_ssrc,
            reports_at: None,
            timer: Timer::default(),
            transport_wide_seq: 0,
            retransmissions: RetransmissionBudget::default(),
            downlink: Downlink::default(),
        }
    }

    /// Sends a packet of `len` bytes, which `write` fills in with the stamp that it is told. Only a packet that carries a transport-wide
    /// sequence number takes one: to the client every number that it does not see is a loss.
    ///
    /// # Errors
    /// Why it did not go out; no number was used then.
    #[inline]
    pub(crate) fn send_rtp(
        &mut self,
        clock: &Clock,
        len: usize,
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<Sealed, DropReason> {
        let sealed = self.send_stamped(clock, len, is_numbered, write)?;
        self.retransmissions.earn(len);
        Ok(sealed)
    }

    #[inline]
    fn send_stamped(
        &mut self,
        clock: &Clock,
        len: usize,
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<Sealed, DropReason> {
        let stamp = Stamp { abs_send_time: clock.abs_send_time, transport_wide_seq: self.transport_wide_seq };
        let tag = self.webrtc.send_rtp(clock.now, len, |room| write(room, stamp))?;
        self.transport_wide_seq = self.transport_wide_seq.wrapping_add(u16::from(is_numbered));
        Ok(Sealed { stamp, tag })
    }

    /// The same for a packet of a retransmission stream.
    ///
    /// # Errors
    /// Why it did not go out: [`DropReason::RetransmissionLimit`] if the client has had its share.
    pub(crate) fn send_rtx(
        &mut self,
        clock: &Clock,
        len: usize,
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<(), DropReason> {
        if !self.retransmissions.allows(len) {
            return Err(DropReason::RetransmissionLimit);
        }
        self.send_stamped(clock, len, is_numbered, write)?;
        self.retransmissions.spend(len);
        Ok(())
    }

    /// Sends a packet once more as it was sent before.
    ///
    /// # Errors
    /// Why it did not go out: [`DropReason::RetransmissionLimit`] if the client has had its share.
    pub(crate) fn send_again(
        &mut self,
        now: Instant,
        len: usize,
        sealed: Sealed,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<(), DropReason> {
        if !self.retransmissions.allows(len) {
            return Err(DropReason::RetransmissionLimit);
        }
        self.webrtc.send_rtp_again(now, len, sealed.tag, |room| write(room, sealed.stamp))?;
        self.retransmissions.spend(len);
        Ok(())
    }

    /// The client told which packets it got.
    pub(crate) fn receive_feedback(&mut self, feedback: &TransportFeedback<'_>) {
        let (received, lost) = feedback.counts();
        self.downlink.received += u64::from(received);
        self.downlink.lost += u64::from(lost);
    }

    /// Ends an interval of the downlink's account.
    pub(crate) fn sample_downlink(&mut self) {
        let Downlink { received, lost, loss } = &mut self.downlink;
        let told = std::mem::take(received) + *lost;
        *loss = (told > 0).then(|| *lost as f32 / told as f32);
        *lost = 0;
    }

    /// Share of the packets of the last interval that the client missed.
    pub(crate) fn downlink_loss(&self) -> Option<f32> {
        self.downlink.loss
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.feedback.as_ref().and_then(|feedback| feedback.poll_timeout());
        [self.webrtc.poll_timeout(), self.reports_at, feedback].into_iter().flatten().min()
    }
}
