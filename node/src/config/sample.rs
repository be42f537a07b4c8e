//! The commented sample file, written from the table of settings.

use std::fmt::Write as _;

use super::namespaces;
use super::settings::{Section, Setting, sections};

/// `deploy/sluice.sample.toml`: every setting with its documentation, commented out at its default.
pub fn sample() -> String {
    let mut out = String::new();
    for section in sections() {
        write_section(&mut out, section);
    }
    out.push_str(namespaces::SAMPLE);
    out
}

fn write_section(out: &mut String, section: &Section) {
    if !out.is_empty() {
        out.push('\n');
    }
    write_doc(out, section.doc);
    if !section.name.is_empty() {
        let _ = writeln!(out, "[{}]", section.name);
    }
    for setting in &section.settings {
        out.push('\n');
        write_setting(out, setting);
    }
}

fn write_setting(out: &mut String, setting: &Setting) {
    write_doc(out, setting.doc);
    let _ = writeln!(out, "# Allowed: {}. Variable {}, flag --{}.", setting.allowed, setting.env, setting.flag);
    let name = setting.key.rsplit('.').next().unwrap_or(setting.key);
    let unset = if setting.has_default { "" } else { "   # unset" };
    let _ = writeln!(out, "#{name} = {}{unset}", setting.sample);
}

fn write_doc(out: &mut String, doc: &[&str]) {
    for line in doc {
        let _ = writeln!(out, "#{line}");
    }
}
