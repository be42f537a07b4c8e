//! Figures as people read them.

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Ms,
    /// Hundredths.
    Percent,
    /// Bits per second.
    BitsPerSecond,
    /// Times an hour.
    PerHour,
    /// Processors in use.
    Cpus,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// A value with its unit, as people read it: three significant digits, or all of a greater integer.
    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::Count => thousands(value),
            Self::Ms => format!("{} ms", digits(value)),
            Self::Percent => percent(value),
            Self::BitsPerSecond => scaled(value, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]),
            Self::PerHour => format!("{} /h", digits(value)),
            Self::Cpus => digits(value),
            Self::Bytes => scaled(value, &["B", "kB", "MB", "GB"]),
        }
    }
}

/// Three significant digits, or all of a greater integer.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        below if below < 9.995 => format!("{value:.2}"),
        below if below < 99.95 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// A share of a hundred. What is not nothing is not rounded to it.
fn percent(value: f64) -> String {
    if value > 0.0 && value < 0.005 { "<0.01 %".into() } else { format!("{} %", digits(value)) }
}

/// An integer with commas between groups of three digits.
fn thousands(value: f64) -> String {
    let plain = format!("{:.0}", value.abs());
    let mut grouped = String::from(if value <= -0.5 { "-" } else { "" });
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// With the greatest unit, each a thousand of the one before, that leaves something before the point.
fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next();
    while value >= 999.5 && units.peek().is_some() {
        value /= 1000.0;
        unit = units.next();
    }
    format!("{} {}", digits(value), unit.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::Unit::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let figures = [
            Ms.format(0.0),
            Ms.format(1.234),
            Ms.format(9.996),
            Ms.format(99.96),
            Ms.format(12_345.6),
            Percent.format(0.001),
            Percent.format(12.34),
            BitsPerSecond.format(31_940.0),
            BitsPerSecond.format(999_600.0),
            BitsPerSecond.format(2.5e12),
            Bytes.format(143e6),
            PerHour.format(0.5),
            Count.format(1_234_567.0),
            Count.format(-1_234.0),
        ];
        let expected = [
            "0 ms",
            "1.23 ms",
            "10.0 ms",
            "100 ms",
            "12,346 ms",
            "<0.01 %",
            "12.3 %",
            "31.9 kbit/s",
            "1.00 Mbit/s",
            "2,500 Gbit/s",
            "143 MB",
            "0.50 /h",
            "1,234,567",
            "-1,234",
        ];
        assert_eq!(figures, expected);
    }
}
