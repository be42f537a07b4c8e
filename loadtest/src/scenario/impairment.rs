//! What a path is like, in a scenario file: `"80ms,1%"`, or a table for what the short form has no words for.

use std::time::Duration;

use sluice_mesh::wan::{ImpairmentConfig, Loss, Rate};
use toml::{Table, Value};

use super::section::{Problem, Section, not_allowed};
use super::value::{Parsed, duration, flag, integer, parse_bitrate, share, write_duration};

const KEYS: [&str; 9] =
    ["delay", "jitter", "loss", "reorder", "reorder_by", "duplicate", "rate", "queue_bytes", "blackout"];
const LOSS_KEYS: [&str; 4] = ["to_bad", "to_good", "loss_good", "loss_bad"];

/// Of a bottleneck that says nothing of its queue.
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);

/// Reads the short form or the table that stands under `key`.
pub(super) fn take(section: &mut Section, key: &str) -> Result<ImpairmentConfig, Problem> {
    let at = section.at(key);
    match section.take_raw(key) {
        None => Err(section.problem(format!("{key} is missing"))),
        Some(Value::Table(table)) => read_table(at, table),
        Some(Value::String(text)) => {
            parse(&text).map_err(|reason| Problem::new(at, format!("{key} = {text:?}: {reason}")))
        }
        Some(other) => Err(not_allowed(at, key, &other, "text such as \"80ms,1%\", or a table")),
    }
}

/// The short form.
pub(super) fn parse(text: &str) -> Result<ImpairmentConfig, String> {
    let mut config = ImpairmentConfig::default();
    for part in text.split(',').map(str::trim) {
        let value = Value::from(part);
        if let Ok(share) = share(&value) {
            config.loss = Loss::Random(share);
        } else if part == "blackout" {
            config.blackout = true;
        } else {
            config.delay = duration(&value).map_err(|_| format!("{part:?} is neither a delay nor a loss"))?;
        }
    }
    Ok(config)
}

fn read_table(at: String, table: Table) -> Result<ImpairmentConfig, Problem> {
    let mut table = Section::new(at, table, &KEYS)?;
    let rate = table.take("rate", rate)?;
    let queue_bytes = table.take("queue_bytes", integer(0..=usize::MAX))?;
    Ok(ImpairmentConfig {
        delay: table.take("delay", duration)?.unwrap_or_default(),
        jitter: table.take("jitter", duration)?.unwrap_or_default(),
        loss: take_loss(&mut table)?,
        reorder: table.take("reorder", share)?.unwrap_or_default(),
        reorder_by: table.take("reorder_by", duration)?.unwrap_or_default(),
        duplicate: table.take("duplicate", share)?.unwrap_or_default(),
        rate: match (rate, queue_bytes) {
            (None, None) => None,
            (None, Some(_)) => return Err(table.problem("queue_bytes is the queue of a rate, which is missing")),
            (Some(bits_per_second), queue_bytes) => {
                let queue_bytes = queue_bytes.unwrap_or_else(|| default_queue_bytes(bits_per_second));
                Some(Rate { bits_per_second, queue_bytes })
            }
        },
        blackout: table.take("blackout", flag)?.unwrap_or_default(),
    })
}

fn rate(value: &Value) -> Parsed<u64> {
    let integer = value.as_integer().and_then(|bits| u64::try_from(bits).ok());
    let text = || value.as_str().and_then(parse_bitrate).filter(|bits| *bits >= 0.0).map(|bits| bits as u64);
    integer.or_else(text).ok_or_else(|| "a bitrate such as \"5Mbps\", or an integer of bits per second".to_owned())
}

fn default_queue_bytes(bits_per_second: u64) -> usize {
    (bits_per_second as f64 / 8.0 * DEFAULT_QUEUE.as_secs_f64()) as usize
}

fn take_loss(table: &mut Section) -> Result<Loss, Problem> {
    let at = table.at("loss");
    match table.take_raw("loss") {
        None => Ok(Loss::None),
        Some(Value::Table(channel)) => {
            let mut channel = Section::new(at, channel, &LOSS_KEYS)?;
            Ok(Loss::GilbertElliott {
                to_bad: channel.require("to_bad", share)?,
                to_good: channel.require("to_good", share)?,
                loss_good: channel.take("loss_good", share)?.unwrap_or(0.0),
                loss_bad: channel.take("loss_bad", share)?.unwrap_or(1.0),
            })
        }
        Some(value) => share(&value).map(Loss::Random).map_err(|allowed| not_allowed(at, "loss", &value, &allowed)),
    }
}

/// As a table, which has room for everything.
pub(super) fn write(config: &ImpairmentConfig) -> Value {
    let ImpairmentConfig { delay, jitter, loss, reorder, reorder_by, duplicate, rate, blackout } = *config;
    let mut table = Table::new();
    let mut insert = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    for (key, duration) in [("delay", delay), ("jitter", jitter), ("reorder_by", reorder_by)] {
        if !duration.is_zero() {
            insert(key, write_duration(duration));
        }
    }
    match loss {
        Loss::None => {}
        Loss::Random(share) => insert("loss", share.into()),
        Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad } => {
            let shares = [to_bad, to_good, loss_good, loss_bad].map(Value::from);
            let channel: Table = LOSS_KEYS.map(str::to_owned).into_iter().zip(shares).collect();
            insert("loss", channel.into());
        }
    }
    for (key, share) in [("reorder", reorder), ("duplicate", duplicate)] {
        if share > 0.0 {
            insert(key, share.into());
        }
    }
    if let Some(rate) = rate {
        insert("rate", i64::try_from(rate.bits_per_second).unwrap_or(i64::MAX).into());
        insert("queue_bytes", i64::try_from(rate.queue_bytes).unwrap_or(i64::MAX).into());
    }
    if blackout {
        insert("blackout", true.into());
    }
    table.into()
}
