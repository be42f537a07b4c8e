//! The `sluice` that a test's nodes run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sluice_loadtest::fleet::sluice_beside;

/// Cargo has built the program if this is a run of the whole workspace's tests; otherwise it does now.
pub(crate) fn sluice() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let here = std::env::current_exe().unwrap();
        sluice_beside(&here).unwrap_or_else(|_| {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let mut build = Command::new(env!("CARGO"));
            build.current_dir(workspace).args(["build", "-p", "sluice-node"]);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success(), "cargo build -p sluice-node fails");
            sluice_beside(&here).unwrap_or_else(|error| panic!("{error}"))
        })
    })
    .clone()
}
