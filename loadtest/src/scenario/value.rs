//! Single values of a scenario file, in both directions: as people write them, and as they are written back.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio_tungstenite::tungstenite::http::Uri;
use toml::Value;

/// A value, or what is allowed in its place, in words that finish the sentence "allowed is ...".
pub(super) type Parsed<T> = Result<T, String>;

/// Longest name; names stand in URLs and in the columns of reports.
const MAX_NAME: usize = 64;

pub(super) fn text(value: &Value) -> Parsed<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "text in quotes".to_owned())
}

/// Of a scenario, a room, a user, a node or a region.
pub(super) fn name(value: &Value) -> Parsed<String> {
    value.as_str().filter(|name| is_name(name)).map(str::to_owned).ok_or_else(|| {
        format!("a name in quotes, up to {MAX_NAME} letters, digits, dots, dashes and underscores, such as \"eu-1\"")
    })
}

pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed)
}

pub(super) fn flag(value: &Value) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Parsed<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let number = value.as_integer().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("an integer from {} to {}", range.start(), range.end()))
    }
}

/// Nobody waits longer for a result; keeps sums within their types.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// `"20s"`, `"500ms"`, `"1m 30s"`.
pub(super) fn duration(value: &Value) -> Parsed<Duration> {
    let parsed = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    parsed
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| "a duration in quotes, such as \"20s\", \"500ms\" or \"1m 30s\", up to 30days".to_owned())
}

/// A duration that is not nothing.
pub(super) fn positive_duration(value: &Value) -> Parsed<Duration> {
    match duration(value)? {
        Duration::ZERO => Err("a duration above 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Bits per second: `"1.5Mbps"`, `"32kbps"`, or an integer.
pub(super) fn bitrate(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Parsed<u32> {
    move |value| {
        let bits = value.as_integer().map(|bits| bits as f64).or_else(|| value.as_str().and_then(parse_bitrate));
        bits.filter(|bits| (f64::from(*range.start())..=f64::from(*range.end())).contains(bits))
            .map(|bits| bits.round() as u32)
            .ok_or_else(|| {
                let [least, most] = [range.start(), range.end()].map(|bits| format_bitrate((*bits).into()));
                format!("a bitrate from {least} to {most}, such as \"1.5Mbps\" or \"32kbps\", or an integer of bits per second")
            })
    }
}

/// Units of bitrates and their bits per second, the largest first.
const BITRATE_UNITS: [(&str, u64); 4] = [("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("kbps", 1000), ("bps", 1)];

/// Bits per second of a text such as `1.5Mbps`.
fn parse_bitrate(text: &str) -> Option<f64> {
    let with_unit = |(unit, bits): (&str, u64)| Some((text.strip_suffix(unit)?, bits));
    let (number, bits) = BITRATE_UNITS.into_iter().find_map(with_unit)?;
    number.trim_end().parse::<f64>().ok().map(|number| number * bits as f64)
}

fn format_bitrate(bits_per_second: u64) -> String {
    let whole =
        BITRATE_UNITS.into_iter().find(|(_, bits)| bits_per_second >= *bits && bits_per_second.is_multiple_of(*bits));
    let (unit, bits) = whole.unwrap_or(("bps", 1));
    format!("{}{unit}", bits_per_second / bits)
}

/// A share of a whole: `"0.5%"`, or a number from 0 to 1.
pub(super) fn share(value: &Value) -> Parsed<f64> {
    let percent = |text: &str| text.strip_suffix('%')?.trim_end().parse::<f64>().ok().map(|percent| percent / 100.0);
    let share = value.as_str().and_then(percent).or_else(|| number(value));
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share such as \"0.5%\", or a number from 0 to 1".to_owned())
}

/// A number that is not negative.
pub(super) fn amount(value: &Value) -> Parsed<f64> {
    let amount = number(value).filter(|amount| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "a number, 0 or more".to_owned())
}

pub(super) fn web_socket_url(value: &Value) -> Parsed<String> {
    url(value, ["ws", "wss"]).ok_or_else(|| "a URL such as \"wss://sfu.example:4443\"".to_owned())
}

pub(super) fn http_url(value: &Value) -> Parsed<String> {
    url(value, ["http", "https"]).ok_or_else(|| "a URL such as \"http://127.0.0.1:4440/metrics\"".to_owned())
}

fn url(value: &Value, schemes: [&str; 2]) -> Option<String> {
    let text = value.as_str()?;
    let uri: Uri = text.parse().ok()?;
    let is_fit = uri.host().is_some_and(|host| !host.is_empty()) && schemes.contains(&uri.scheme_str()?);
    is_fit.then(|| text.to_owned())
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

pub(super) fn write_duration(duration: Duration) -> Value {
    humantime::format_duration(duration).to_string().into()
}

pub(super) fn write_bitrate(bits_per_second: impl Into<u64>) -> Value {
    format_bitrate(bits_per_second.into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrates_are_read_and_written() {
        let read = bitrate(1..=2_000_000_000);
        for (text, bits) in [("1Mbps", 1_000_000), ("1.5Mbps", 1_500_000), ("32 kbps", 32_000), ("900bps", 900)] {
            assert_eq!(read(&text.into()), Ok(bits), "{text}");
            assert_eq!(read(&write_bitrate(bits)), Ok(bits), "{text}");
        }
        assert_eq!(read(&Value::Integer(64_000)), Ok(64_000));
        for wrong in ["", "Mbps", "1", "1 MB", "-1kbps", "NaNbps", "infbps", "3Gbps"] {
            assert!(read(&wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_percentages_or_fractions() {
        assert_eq!(share(&"0.5%".into()), Ok(0.005));
        assert_eq!(share(&Value::Float(0.25)), Ok(0.25));
        assert_eq!(share(&Value::Integer(1)), Ok(1.0));
        for wrong in ["0.5", "101%", "-1%", "NaN%", "%"] {
            assert!(share(&wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration(&"1m 30s".into()), Ok(Duration::from_secs(90)));
        assert_eq!(duration(&"0s".into()), Ok(Duration::ZERO));
        assert!(positive_duration(&"0ms".into()).is_err());
        assert!(duration(&"20".into()).is_err());
        assert!(duration(&"31days".into()).is_err());
        assert!(duration(&"99999999999999999999years".into()).is_err());
        assert!(duration(&Value::Integer(20)).is_err());
    }
}
