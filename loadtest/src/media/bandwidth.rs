//! What a transport's publishers may send: transport-wide feedback through Google Congestion Control, and REMB.

use std::collections::VecDeque;
use std::time::Instant;

use rtc_interceptor::{
    Acknowledgement, ArrivalGroupAccumulator, LossController, PacketReport, RateCalculator, RateController,
    convert_twcc,
};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::trendline::Trendline;

/// Packets that feedback is awaited for: four seconds of 1,000 packets/s. What is not spoken of by then never will be.
const MAX_UNREPORTED: usize = 4096;
/// libwebrtc does not go below for a stream of video.
pub(crate) const MIN_BITS_PER_SECOND: f64 = 30_000.0;

/// Numbers what a transport sends, and learns from what comes back how much that may be.
///
/// Nothing limits a transport that gets no feedback. One that does begins at all that its publishers want: a browser
/// gets there in a second or two by probing.
pub(crate) struct BandwidthController {
    next_number: u16,
    next_id: u64,
    unreported: VecDeque<PacketReport>,
    /// All that the publishers want, and of which the estimator knows.
    wanted: f64,
    estimator: Option<Estimator>,
    remb: Option<f64>,
}

impl BandwidthController {
    /// Transport-wide sequence numbers begin with `first_number`.
    pub(crate) fn new(first_number: u16) -> Self {
        Self {
            next_number: first_number,
            next_id: 0,
            unreported: VecDeque::new(),
            wanted: 0.0,
            estimator: None,
            remb: None,
        }
    }

    /// How much the publishers would send if nothing limited them.
    pub(crate) fn set_wanted(&mut self, bits_per_second: f64) {
        if bits_per_second == self.wanted {
            return;
        }
        if let Some(estimator) = &mut self.estimator {
            let allowed = estimator.allowed() + (bits_per_second - self.wanted).max(0.0);
            *estimator = Estimator::new(allowed, bits_per_second);
        }
        self.wanted = bits_per_second;
    }

    /// The transport-wide sequence number that the next packet is to carry.
    pub(crate) fn next_number(&self) -> u16 {
        self.next_number
    }

    /// A packet with [`Self::next_number`] left.
    pub(crate) fn on_sent(&mut self, now: Instant, ssrc: u32, rtp_sequence_number: u16, size: usize) {
        if self.unreported.len() == MAX_UNREPORTED {
            self.unreported.pop_front();
        }
        self.unreported.push_back(PacketReport {
            ssrc,
            id: self.next_id,
            rtp_sequence_number,
            is_twcc: true,
            twcc_sequence_number: self.next_number,
            size,
            arrived: false,
            departure: now,
            arrival: None,
            ecn: Default::default(),
        });
        self.next_number = self.next_number.wrapping_add(1);
        self.next_id += 1;
    }

    /// The receiver says what arrived. Everything before the newest that did is settled by that.
    pub(crate) fn on_feedback(&mut self, now: Instant, feedback: &TransportLayerCc) {
        let Some(oldest) = self.unreported.front().map(|packet| packet.twcc_sequence_number) else { return };
        let mut settled = 0;
        let statuses = usize::from(feedback.packet_status_count);
        for acknowledgement in convert_twcc(feedback).into_iter().take(statuses) {
            let Acknowledgement { sequence_number, arrived, arrival, .. } = acknowledgement;
            let index = usize::from(sequence_number.wrapping_sub(oldest));
            if arrived && let Some(packet) = self.unreported.get_mut(index) {
                (packet.arrived, packet.arrival) = (true, arrival);
                settled = settled.max(index + 1);
            }
        }
        let reports: Vec<PacketReport> = self.unreported.drain(..settled).collect();
        let wanted = self.wanted;
        self.estimator.get_or_insert_with(|| Estimator::new(wanted, wanted)).on_reports(now, &reports);
    }

    /// The receiver says how much it can take (draft-alvestrand-rmcat-remb-03).
    pub(crate) fn on_remb(&mut self, bits_per_second: f64) {
        self.remb = Some(bits_per_second);
    }

    /// How much may be sent, in bits per second; `None`: nothing limits it.
    pub(crate) fn allowed(&self) -> Option<f64> {
        let estimated = self.estimator.as_ref().map(Estimator::allowed);
        estimated.into_iter().chain(self.remb).reduce(f64::min)
    }
}

/// Google Congestion Control (draft-ietf-rmcat-gcc-02) out of webrtc-rs's parts, with libwebrtc's trendline filter. Not
/// webrtc-rs's `Gcc`, under which a bottleneck's queue grows until it is full: its filter hardly sees a queue that
/// grows by less than a third of the rate, and it takes all that one message reports for received in the instant of the
/// message, so that the rate seems up to a fifth too high.
struct Estimator {
    groups: ArrivalGroupAccumulator,
    trendline: Trendline,
    received: RateCalculator,
    /// Instant that stands for the zero of the receiver's clock.
    epoch: Option<Instant>,
    delay_control: RateController,
    loss_control: LossController,
}

impl Estimator {
    fn new(initial: f64, wanted: f64) -> Self {
        let max = wanted.max(MIN_BITS_PER_SECOND);
        Self {
            groups: ArrivalGroupAccumulator::default(),
            trendline: Trendline::new(),
            received: RateCalculator::default(),
            epoch: None,
            delay_control: RateController::new(initial, MIN_BITS_PER_SECOND, max),
            loss_control: LossController::new(initial, MIN_BITS_PER_SECOND, max),
        }
    }

    /// The lower of what delay and loss allow.
    fn allowed(&self) -> f64 {
        self.delay_control.target().min(self.loss_control.target())
    }

    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        let mut newest = None;
        for report in reports {
            if let Some(arrival) = report.arrival {
                let at = *self.epoch.get_or_insert(now) + arrival;
                self.received.add(at, report.size);
                newest = newest.max(Some(at));
            }
            if let Some(group) = self.groups.accumulate(report) {
                self.trendline.on_group(&group);
            }
        }
        if let Some(newest) = newest {
            let received = self.received.rate_bits_per_second(newest);
            self.delay_control.update(now, self.trendline.usage(), received);
        }
        let lost = reports.iter().filter(|report| !report.arrived).count();
        self.loss_control.update(now, lost, reports.len());
    }
}
