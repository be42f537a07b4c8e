//! The program as its users run it: `sluice-loadtest` as a process, against real nodes.
#![cfg(target_os = "linux")]

mod bad_input;
#[path = "../common/binary.rs"]
mod binary;
mod endings;
mod scenarios;
mod support;
