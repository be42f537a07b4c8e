//! Medians of several runs, and how they compare.

/// Named rates, in packets out per second of processor time.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<(String, Vec<f64>)>);

impl Rates {
    /// Adds the result of one run.
    pub(crate) fn add(&mut self, name: &str, packets_per_cpu_second: f64) {
        println!("  {name:<44} {:>9.0} packets per CPU-second", packets_per_cpu_second);
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(packets_per_cpu_second),
            None => self.0.push((name.to_owned(), vec![packets_per_cpu_second])),
        }
    }

    /// Prints the medians, each with its share of the first.
    pub(crate) fn print(&self) {
        let Some((base_name, base)) = self.0.first().map(|(name, values)| (name, median(values))) else { return };
        println!(
            "\n{:<46} {:>12} {:>12} {:>8} {:>10}",
            "packets out per CPU-second", "median", "ns/packet", "runs", "ratio"
        );
        for (name, values) in &self.0 {
            let rate = median(values);
            println!("{name:<46} {rate:>12.0} {:>12.0} {:>8} {:>10.2}", 1e9 / rate, values.len(), rate / base);
        }
        println!("ratio: to {base_name}");
    }
}

/// The middle value; of an even number the lower of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
