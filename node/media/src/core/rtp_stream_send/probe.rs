//! What is sent only to see whether it passes: packets that the client has, and padding, in its stream for
//! retransmissions.

use super::{MAX_RETRANSMISSION_AGE, RtpStreamSend};
use crate::bandwidth::OVERHEAD;
use crate::clock::Clock;
use crate::core::producer::Producer;
use crate::core::user_transport::{Purpose, UserTransport};
use crate::drop_reason::DropReason;
use crate::stream::header_template::HeaderFields;
use crate::stream::succession::Shifts;
use crate::wire::rtp::RtpHeader;

/// A packet that is sent again as a probe: of what is less, padding can be made in the size that is right.
const MIN_RESENT_BYTES: u64 = 600;

/// Most padding of a packet.
const MAX_PADDING: usize = 255;

/// In the first byte of a packet that has padding.
const PADDING_FLAG: u8 = 0x20;

impl RtpStreamSend {
    /// Whether the client has a stream for what is sent again, with numbers that it tells of, and knows this one.
    pub(crate) fn can_probe(&self) -> bool {
        self.parameters.rtx.is_some() && self.parameters.template.has_transport_wide_seq() && self.packets > 0
    }

    /// Sends the newest packets again, up to the number `newest`, and padding, until that makes so many bytes. Returns
    /// how many packets.
    pub(crate) fn send_probe(
        &mut self,
        mut bytes: u64,
        newest: u16,
        (producer, shifts): (&Producer, &Shifts),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> u64 {
        let Some(rtx) = self.parameters.rtx else { return 0 };
        let (mut sent, mut again) = (0, newest);
        while bytes > 0 {
            let (former, output) = (self.rtx_seq, again);
            let place = self.sent.get(output).filter(|_| bytes >= MIN_RESENT_BYTES);
            let packet = place.and_then(|place| producer.named(place.input, clock.now, MAX_RETRANSMISSION_AGE));
            let packet = packet.filter(|packet| packet.payload().len() as u64 <= bytes);
            let resent = place.zip(packet).map(|(place, packet)| {
                again = again.wrapping_sub(1);
                let len = packet.payload().len();
                let as_probe = (rtx, Purpose::Probation);
                self.send_rtx(&packet, (place, shifts.of(output)), as_probe, transport, clock).map(|()| len)
            });
            let len = match resent {
                Some(Ok(len)) => len,
                _ => match self.send_padding(bytes, rtx, transport, clock) {
                    Ok(len) => len,
                    Err(_) => return sent,
                },
            };
            debug_assert_ne!(former, self.rtx_seq);
            bytes = bytes.saturating_sub((self.parameters.template.header_len(None, None) + len + OVERHEAD) as u64);
            sent += 1;
        }
        sent
    }

    /// Nothing but padding, RFC 3550 section 5.1, of at most so many bytes on the path. Returns how much.
    fn send_padding(
        &mut self,
        bytes: u64,
        (ssrc, payload_type): (u32, u8),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<usize, DropReason> {
        let template = &self.parameters.template;
        let room =
            usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(template.header_len(None, None) + OVERHEAD);
        let padding = room.clamp(1, MAX_PADDING) as u8;
        let sequence_number = self.rtx_seq.wrapping_add(1);
        let header = RtpHeader { marker: false, payload_type, sequence_number, timestamp: 0, ssrc };
        let len = template.header_len(None, None) + usize::from(padding);
        transport.send_padding(clock, (self.kind, len), template.has_transport_wide_seq(), |packet, stamp| {
            let rest = template.write(packet, &HeaderFields { header, stamp, audio_level: None, carried: None });
            rest.fill(0);
            if let Some(last) = rest.last_mut() {
                *last = padding;
            }
            packet.first_mut().into_iter().for_each(|first| *first |= PADDING_FLAG);
        })?;
        self.rtx_seq = sequence_number;
        Ok(padding.into())
    }
}
