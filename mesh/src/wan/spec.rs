//! Paths as people write them: `80ms,1%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ImpairmentConfig, Loss, Rate};

/// What no path is longer than: more would only be a slip of the unit.
const MAX_DURATION: Duration = Duration::from_secs(60);

/// In bits per second; beyond it a byte of queue could not be told from two.
const MAX_RATE: u64 = 8_000_000_000;

/// Of a bottleneck that does not say: what a well-kept router has.
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);

const PARTS: &str = "a delay (80ms), ±10ms, jitter=10ms, 1% or loss=1%, burst=1%/5, reorder=1%/20ms, duplicate=0.1%, \
                     rate=5Mbps, queue=100ms, blackout";
const DURATION: &str = "a time up to 60s, such as 80ms, 1.5ms or 250us";
const SHARE: &str = "a share from 0% to 100%";
const BURST: &str = "a share and a mean number of packets of at least 1, such as 1%/5, the share below 100% and so \
                     that good packets come between the bursts";
const GILBERT_ELLIOTT: &str = "four shares: to turn bad, to turn good, of loss while good, of loss while bad, such as \
                               1%/20%/0%/100%";
const REORDER: &str = "a share and a time, such as 1%/20ms";
const RATE: &str = "a rate up to 8Gbps, such as 5Mbps, 800kbps or 64000bps";

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A part is none, or its value makes no sense.
    #[error("{part:?}: allowed is {allowed}")]
    Part {
        /// The part.
        part: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A part says what another one has said.
    #[error("{0:?}: the same is given twice")]
    Twice(String),
    /// The ends of a path cannot be told.
    #[error(
        "{0:?}: allowed is REGION-REGION=PATH for both directions, REGION>REGION=PATH for one, such as eu-us=80ms,1%"
    )]
    Ends(String),
    /// An end of a path is no region that there is.
    #[error("{region:?}: allowed are the regions {allowed}")]
    Region {
        /// The end.
        region: String,
        /// The regions that there are.
        allowed: String,
    },
    /// The ends of a path are the same.
    #[error("{0:?}: allowed are two different regions")]
    SameEnds(String),
}

/// A path between two regions: `eu-us=80ms,1%` for both directions, `eu>us=80ms,1%` for one.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSpec {
    /// One region.
    pub from: String,
    /// The other.
    pub to: String,
    /// Not only this direction but also back.
    pub both: bool,
    /// What the path is like.
    pub config: ImpairmentConfig,
}

impl FromStr for PathSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let no_ends = || SpecError::Ends(spec.to_owned());
        let (ends, path) = spec.split_once('=').ok_or_else(no_ends)?;
        let (from, to, both) = match (ends.split_once('>'), ends.split_once('-')) {
            (Some((from, to)), _) => (from.trim(), to.trim(), false),
            (None, Some((from, to))) => (from.trim(), to.trim(), true),
            (None, None) => return Err(no_ends()),
        };
        if from.is_empty() || to.is_empty() {
            return Err(no_ends());
        }
        if from == to {
            return Err(SpecError::SameEnds(ends.to_owned()));
        }
        Ok(Self { from: from.to_owned(), to: to.to_owned(), both, config: path.parse()? })
    }
}

impl fmt::Display for PathSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}={}", self.from, if self.both { '-' } else { '>' }, self.to, self.config)
    }
}

/// Parts separated by commas, in any order: `80ms` or `delay=80ms` is the delay (one way), `±10ms` that it varies by so
/// much, `jitter=10ms` that up to so much is added, `1%` or `loss=1%` random loss, `burst=1%/5` a loss of 1% in bursts
/// of 5 packets on average, `reorder=1%/20ms`, `duplicate=0.1%`, `rate=5Mbps`, `queue=100ms` what the rate's queue
/// holds (that much, unless given), `blackout`. Every channel of [`Loss::GilbertElliott`] is
/// `gilbert-elliott=TO_BAD/TO_GOOD/LOSS_GOOD/LOSS_BAD`.
impl FromStr for ImpairmentConfig {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let mut parts = Parts::default();
        for part in spec.split(',') {
            parts.take(part.trim())?;
        }
        parts.finish()
    }
}

#[derive(Default)]
struct Parts<'a> {
    delay: Option<Duration>,
    /// As written, too.
    spread: Option<(&'a str, Duration)>,
    jitter: Option<Duration>,
    loss: Option<Loss>,
    reorder: Option<(f64, Duration)>,
    duplicate: Option<f64>,
    rate: Option<u64>,
    queue: Option<(&'a str, Duration)>,
    blackout: Option<bool>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, part: &'a str) -> Result<(), SpecError> {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if part == "blackout" => (part, part),
            None if part.ends_with('%') => ("loss", part),
            None => part.strip_prefix('±').map_or(("delay", part), |spread| ("±", spread)),
        };
        match key {
            "delay" => set(&mut self.delay, part, duration(value), PARTS),
            "±" => set(&mut self.spread, part, duration(value).map(|spread| (part, spread)), DURATION),
            "jitter" => set(&mut self.jitter, part, duration(value), DURATION),
            "loss" => set(&mut self.loss, part, share(value).map(Loss::Random), SHARE),
            "burst" => set(&mut self.loss, part, burst(value), BURST),
            "gilbert-elliott" => set(&mut self.loss, part, gilbert_elliott(value), GILBERT_ELLIOTT),
            "reorder" => set(&mut self.reorder, part, reorder(value), REORDER),
            "duplicate" => set(&mut self.duplicate, part, share(value), SHARE),
            "rate" => set(&mut self.rate, part, rate(value), RATE),
            "queue" => set(&mut self.queue, part, duration(value).map(|queue| (part, queue)), DURATION),
            "blackout" => set(&mut self.blackout, part, (part == "blackout").then_some(true), PARTS),
            _ => Err(SpecError::Part { part: part.to_owned(), allowed: PARTS }),
        }
    }

    fn finish(self) -> Result<ImpairmentConfig, SpecError> {
        let refuse = |part: &str, allowed| SpecError::Part { part: part.to_owned(), allowed };
        let (mut delay, mut jitter) = (self.delay.unwrap_or_default(), self.jitter.unwrap_or_default());
        if let Some((part, spread)) = self.spread {
            if self.jitter.is_some() {
                return Err(SpecError::Twice(part.to_owned()));
            }
            delay = delay.checked_sub(spread).ok_or_else(|| refuse(part, "at most the delay"))?;
            jitter = spread * 2;
        }
        let queue = self.queue.map_or(DEFAULT_QUEUE, |(_, queue)| queue);
        if let (Some((part, _)), None) = (self.queue, self.rate) {
            return Err(refuse(part, "set only together with rate"));
        }
        let (reorder, reorder_by) = self.reorder.unwrap_or_default();
        Ok(ImpairmentConfig {
            delay,
            jitter,
            loss: self.loss.unwrap_or_default(),
            reorder,
            reorder_by,
            duplicate: self.duplicate.unwrap_or_default(),
            rate: self.rate.map(|rate| Rate::new(rate, queue)),
            blackout: self.blackout.is_some(),
        })
    }
}

fn set<T>(slot: &mut Option<T>, part: &str, value: Option<T>, allowed: &'static str) -> Result<(), SpecError> {
    let value = value.ok_or_else(|| SpecError::Part { part: part.to_owned(), allowed })?;
    if slot.replace(value).is_some() { Err(SpecError::Twice(part.to_owned())) } else { Ok(()) }
}

/// A number and the unit behind it, as a multiple of the smallest unit.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    // Too large a number becomes the largest one, which is refused.
    Some((number.parse::<f64>().ok()? * factor).round() as u64)
}

fn duration(text: &str) -> Option<Duration> {
    let nanos = quantity(text, &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)])?;
    Some(Duration::from_nanos(nanos)).filter(|duration| *duration <= MAX_DURATION)
}

fn rate(text: &str) -> Option<u64> {
    let rate = quantity(text, &[("bps", 1.0), ("kbps", 1e3), ("Mbps", 1e6), ("Gbps", 1e9)])?;
    (1..=MAX_RATE).contains(&rate).then_some(rate)
}

fn share(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    if number.contains(|c: char| !c.is_ascii_digit() && c != '.') {
        return None;
    }
    // Moving the decimal point is exact, dividing is not.
    format!("{number}e-2").parse().ok().filter(|share| (0.0..=1.0).contains(share))
}

fn burst(text: &str) -> Option<Loss> {
    let (overall, length) = text.split_once('/')?;
    let (overall, length) = (share(overall)?, length.parse::<f64>().ok()?);
    let possible = (1.0..=1e6).contains(&length) && overall <= length / (length + 1.0);
    possible.then(|| Loss::bursts(overall, length))
}

fn gilbert_elliott(text: &str) -> Option<Loss> {
    let shares: Vec<f64> = text.split('/').map(share).collect::<Option<_>>()?;
    let &[to_bad, to_good, loss_good, loss_bad] = shares.as_slice() else { return None };
    Some(Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad })
}

fn reorder(text: &str) -> Option<(f64, Duration)> {
    let (reordered, by) = text.split_once('/')?;
    Some((share(reordered)?, duration(by)?))
}

impl fmt::Display for ImpairmentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Time(self.delay))?;
        if !self.jitter.is_zero() {
            write!(f, ",jitter={}", Time(self.jitter))?;
        }
        match self.loss {
            Loss::None => {}
            Loss::Random(share) => write!(f, ",{}", Percent(share))?,
            Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad } => match as_burst(self.loss) {
                Some(burst) => write!(f, ",burst={burst}")?,
                None => {
                    let [to_bad, to_good, loss_good, loss_bad] = [to_bad, to_good, loss_good, loss_bad].map(Percent);
                    write!(f, ",gilbert-elliott={to_bad}/{to_good}/{loss_good}/{loss_bad}")?;
                }
            },
        }
        if self.reorder > 0.0 || !self.reorder_by.is_zero() {
            write!(f, ",reorder={}/{}", Percent(self.reorder), Time(self.reorder_by))?;
        }
        if self.duplicate > 0.0 {
            write!(f, ",duplicate={}", Percent(self.duplicate))?;
        }
        if let Some(rate) = self.rate {
            write!(f, ",rate={},queue={}", BitRate(rate.bits_per_second), Time(queue_time(rate)))?;
        }
        if self.blackout { f.write_str(",blackout") } else { Ok(()) }
    }
}

/// The short form of a channel that has one and comes out of it exactly.
fn as_burst(loss: Loss) -> Option<String> {
    let Loss::GilbertElliott { to_bad, to_good, .. } = loss else { return None };
    let overall = to_bad / (to_bad + to_good);
    // Nine digits are more than anybody writes, and fewer than what rounding errors are in.
    let rounded = |number: f64| format!("{number:.9}").parse::<f64>().ok();
    let short = format!("{}/{}", Percent(rounded(overall)?), rounded(1.0 / to_good)?);
    (burst(&short) == Some(loss)).then_some(short)
}

/// Rounded up: what parses it rounds down.
fn queue_time(rate: Rate) -> Duration {
    let bits = rate.queue_bytes as u128 * 8;
    let nanos = (bits * 1_000_000_000).div_ceil(u128::from(rate.bits_per_second.max(1)));
    Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
}

struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.write_str("0ms") } else { write!(f, "{:?}", self.0) }
    }
}

struct BitRate(u64);

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("kbps", 1_000), ("bps", 1)];
        let whole = units.into_iter().find(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(("bps", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

struct Percent(f64);

impl fmt::Display for Percent {
    /// Moves the decimal point of the shortest number that is this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.0.to_string();
        let (whole, fraction) = share.split_once('.').unwrap_or((&share, ""));
        let fraction = format!("{fraction:0<2}");
        let (percents, rest) = fraction.split_at(2);
        let percents = format!("{whole}{percents}");
        let percents = match percents.trim_start_matches('0') {
            "" => "0",
            percents => percents,
        };
        let point = if rest.is_empty() { "" } else { "." };
        write!(f, "{percents}{point}{rest}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_part_is_understood() {
        let spec = "80ms, jitter=10ms, 1%, reorder=1.5%/20ms, duplicate=0.1%, rate=5Mbps, queue=200ms, blackout";
        let expected = ImpairmentConfig {
            delay: ms(80),
            jitter: ms(10),
            loss: Loss::Random(0.01),
            reorder: 0.015,
            reorder_by: ms(20),
            duplicate: 0.001,
            rate: Some(Rate { bits_per_second: 5_000_000, queue_bytes: 125_000 }),
            blackout: true,
        };
        assert_eq!(spec.parse(), Ok(expected));
        let loss = Loss::GilbertElliott { to_bad: 0.01 * 0.2 / 0.99, to_good: 0.2, loss_good: 0.0, loss_bad: 1.0 };
        assert_eq!("burst=1%/5".parse(), Ok(ImpairmentConfig { loss, ..Default::default() }));
        assert_eq!("loss=1%,delay=2ms".parse::<ImpairmentConfig>(), "2ms,1%".parse());
        let rate = Some(Rate { bits_per_second: 800_000, queue_bytes: 10_000 });
        assert_eq!("rate=800kbps".parse(), Ok(ImpairmentConfig { rate, ..Default::default() }));
    }

    #[test]
    fn a_delay_varies_to_both_sides() {
        let expected = ImpairmentConfig { delay: ms(70), jitter: ms(20), ..Default::default() };
        assert_eq!("80ms,±10ms".parse(), Ok(expected));
        assert_eq!("±10ms,80ms".parse(), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (spec, expected) in [
            ("", format!("\"\": allowed is {PARTS}")),
            ("80", format!("\"80\": allowed is {PARTS}")),
            ("80ms,", format!("\"\": allowed is {PARTS}")),
            ("=80ms", format!("\"=80ms\": allowed is {PARTS}")),
            ("80ms,speed=1", format!("\"speed=1\": allowed is {PARTS}")),
            ("61s", format!("\"61s\": allowed is {PARTS}")),
            ("-1ms", format!("\"-1ms\": allowed is {PARTS}")),
            ("blackout=no", format!("\"blackout=no\": allowed is {PARTS}")),
            ("jitter=x", format!("\"jitter=x\": allowed is {DURATION}")),
            ("101%", format!("\"101%\": allowed is {SHARE}")),
            ("loss=1e3%", format!("\"loss=1e3%\": allowed is {SHARE}")),
            ("loss=0.01", format!("\"loss=0.01\": allowed is {SHARE}")),
            ("burst=1%", format!("\"burst=1%\": allowed is {BURST}")),
            ("burst=90%/5", format!("\"burst=90%/5\": allowed is {BURST}")),
            ("burst=1%/0.5", format!("\"burst=1%/0.5\": allowed is {BURST}")),
            ("reorder=1%", format!("\"reorder=1%\": allowed is {REORDER}")),
            ("rate=0bps", format!("\"rate=0bps\": allowed is {RATE}")),
            ("rate=5", format!("\"rate=5\": allowed is {RATE}")),
            ("queue=10ms", "\"queue=10ms\": allowed is set only together with rate".to_owned()),
            ("10ms,±11ms", "\"±11ms\": allowed is at most the delay".to_owned()),
            ("10ms,20ms", "\"20ms\": the same is given twice".to_owned()),
            ("1%,burst=1%/5", "\"burst=1%/5\": the same is given twice".to_owned()),
            ("20ms,±1ms,jitter=1ms", "\"±1ms\": the same is given twice".to_owned()),
        ] {
            assert_eq!(spec.parse::<ImpairmentConfig>().map_err(|error| error.to_string()), Err(expected), "{spec}");
        }
    }

    #[test]
    fn ends_are_told_apart() {
        let config = ImpairmentConfig { delay: ms(80), ..Default::default() };
        let path = |both| PathSpec { from: "eu".to_owned(), to: "us".to_owned(), both, config };
        assert_eq!("eu-us=80ms".parse(), Ok(path(true)));
        assert_eq!("eu>us=80ms".parse(), Ok(path(false)));
        for both in [true, false] {
            assert_eq!(path(both).to_string().parse(), Ok(path(both)));
        }
        assert_eq!("eu-eu=80ms".parse::<PathSpec>(), Err(SpecError::SameEnds("eu-eu".to_owned())));
        for spec in ["80ms", "eu=80ms", "eu-=80ms", ">us=80ms"] {
            assert_eq!(spec.parse::<PathSpec>(), Err(SpecError::Ends(spec.to_owned())));
        }
        assert!(matches!("eu-us=80".parse::<PathSpec>(), Err(SpecError::Part { .. })));
    }

    #[test]
    fn what_is_shown_is_what_one_would_write() {
        for spec in [
            "0ms",
            "80ms,1%",
            "1.5ms,jitter=250µs,burst=1%/5",
            "0ms,burst=0.25%/3.5",
            "0ms,gilbert-elliott=1%/20%/0.5%/90%",
            "10ms,reorder=1%/20ms,duplicate=0.1%,rate=5Mbps,queue=100ms",
            "0ms,rate=64008bps,queue=1s,blackout",
        ] {
            assert_eq!(spec.parse::<ImpairmentConfig>().map(|config| config.to_string()), Ok(spec.to_owned()));
        }
    }
}
