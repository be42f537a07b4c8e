//! What is told while a run lasts: one line that renews itself on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use crate::results::{Event, Sample};

/// Seconds between two plain lines.
const PLAIN_EVERY: u32 = 5;

/// Is told what happens.
pub trait Observer: Send {
    /// Something began, ended or went wrong.
    fn say(&mut self, what: &str);

    /// Something happened within the run.
    fn event(&mut self, event: &Event);

    /// A second is over.
    fn second(&mut self, sample: &Sample, total_s: f64);
}

/// Nobody is told.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Observer for Quiet {
    fn say(&mut self, _what: &str) {}
    fn event(&mut self, _event: &Event) {}
    fn second(&mut self, _sample: &Sample, _total_s: f64) {}
}

/// Standard error, so that standard output is free for the summary.
#[derive(Debug)]
pub struct Terminal {
    live: bool,
    seconds: u32,
    /// A line stands that the next one replaces.
    dirty: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { live: std::io::stderr().is_terminal(), seconds: 0, dirty: false }
    }
}

impl Terminal {
    fn line(&mut self, text: &str) {
        let mut out = std::io::stderr().lock();
        // Whoever closed the terminal does not want to know.
        let _ = if std::mem::take(&mut self.dirty) { write!(out, "\r\x1b[K{text}\n") } else { writeln!(out, "{text}") };
    }
}

impl Observer for Terminal {
    fn say(&mut self, what: &str) {
        self.line(what);
    }

    fn event(&mut self, event: &Event) {
        self.line(&format!("{:>6.1} s  {}", event.at_s, event.what));
    }

    fn second(&mut self, sample: &Sample, total_s: f64) {
        self.seconds += 1;
        let text = status(sample, total_s);
        if self.live {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K{text}");
            let _ = out.flush();
            self.dirty = true;
        } else if self.seconds % PLAIN_EVERY == 1 {
            self.line(&text);
        }
    }
}

/// ` 12.0/80 s users 120/150 in 85.2 Mbit/s out 12.1 Mbit/s loss 0.00% delay p50 1.2 p99 4.5 ms freezes 0 failed joins
/// 0`
fn status(sample: &Sample, total_s: f64) -> String {
    let (mut received, mut sent, mut expected, mut lost, mut freezes) = (0, 0, 0, 0, 0);
    let (mut count, mut weighted_p50, mut p99) = (0, 0.0, 0.0_f64);
    let mut interval = 1.0_f64;
    for group in &sample.groups {
        interval = group.interval_s.max(0.001);
        sent += group.sent_audio.bytes + group.sent_video.bytes + group.sent_data.bytes;
        received += group.data.bytes;
        for stream in [&group.audio, &group.video] {
            received += stream.bytes;
            expected += stream.expected;
            lost += stream.lost;
            freezes += stream.freezes_500ms;
            count += stream.delay.count;
            weighted_p50 += stream.delay.p50_ms * stream.delay.count as f64;
            p99 = p99.max(stream.delay.p99_ms);
        }
    }
    let mbit = |bytes: u64| bytes as f64 * 8.0 / interval / 1e6;
    let loss = if expected > 0 { lost as f64 / expected as f64 * 100.0 } else { 0.0 };
    let p50 = if count > 0 { weighted_p50 / count as f64 } else { 0.0 };
    format!(
        "{:>6.1}/{total_s:.0} s  users {}/{}  in {:.1} Mbit/s  out {:.1} Mbit/s  loss {loss:.2}%  \
         delay p50 {p50:.1} p99 {p99:.1} ms  freezes {freezes}  failed joins {}",
        sample.at_s,
        sample.users_joined,
        sample.users_wanted,
        mbit(received),
        mbit(sent),
        sample.joins_failed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Durations, GroupSample, Received};

    #[test]
    fn a_second_is_one_line() {
        let video = Received {
            bytes: 125_000,
            expected: 200,
            lost: 1,
            freezes_500ms: 2,
            delay: Durations { count: 10, p50_ms: 4.0, p99_ms: 9.0, ..Durations::default() },
            ..Received::default()
        };
        let group = GroupSample { interval_s: 1.0, video, ..GroupSample::default() };
        let sample =
            Sample { at_s: 12.0, users_wanted: 150, users_joined: 120, groups: vec![group], ..Sample::default() };
        assert_eq!(
            status(&sample, 80.0),
            "  12.0/80 s  users 120/150  in 1.0 Mbit/s  out 0.0 Mbit/s  loss 0.50%  \
             delay p50 4.0 p99 9.0 ms  freezes 2  failed joins 0"
        );
    }
}
