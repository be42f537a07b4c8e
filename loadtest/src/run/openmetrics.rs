//! Reading what `/metrics` answers: OpenMetrics and Prometheus text, as far as samples go.

/// The samples of one answer.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the lines that are samples; what is no sample is passed over.
    pub(super) fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(sample).collect() }
    }

    /// The sum of a metric's samples over all labels; `None` when it has none.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// A metric's samples by one of its labels.
    pub(super) fn by<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.of(name).filter_map(move |sample| Some((label_value(&sample.labels, label)?, sample.value)))
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

/// `name{labels} value [timestamp]`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.rfind('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_at(line.find(' ')?),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample { name: name.to_owned(), labels: labels.trim_end_matches('}').to_owned(), value })
}

/// The value of `label` in `a="x",b="y"`. Values with escaped quotes are cut short: no label that is looked for has
/// any.
fn label_value<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    labels.split("\",").find_map(|pair| {
        let (name, value) = pair.split_once("=\"")?;
        (name == label).then(|| value.trim_end_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_summed_and_told_apart_by_label() {
        let metrics = Metrics::parse(
            "# HELP sluice_worker_dropped_packets Packets dropped, by reason\n\
             sluice_worker_dropped_packets_total{worker=\"0\",reason=\"pipe_shed\"} 3\n\
             sluice_worker_dropped_packets_total{worker=\"1\",reason=\"srtp_replay\"} 4\n\
             sluice_process_resident_bytes 12345678\n\
             go_gc_duration_seconds{quantile=\"0.5\"} 1.5e-05 1395066363000\n# EOF\n",
        );
        assert_eq!(metrics.sum("sluice_worker_dropped_packets_total"), Some(7.0));
        let drops: Vec<_> = metrics.by("sluice_worker_dropped_packets_total", "reason").collect();
        assert_eq!(drops, [("pipe_shed", 3.0), ("srtp_replay", 4.0)]);
        assert_eq!(metrics.sum("sluice_process_resident_bytes"), Some(12_345_678.0));
        assert_eq!(metrics.sum("go_gc_duration_seconds"), Some(1.5e-5));
        assert_eq!(metrics.sum("absent"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            Metrics::parse(&text);
        }
    }
}
