//! What fuzzing has found worth keeping, and the inputs that it began with, go through their targets again.

#![cfg(feature = "node")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sluice_fuzz::{TARGETS, Target};

/// Every file of a target's corpus. A corpus that is empty is missing.
fn replay(name: &str) {
    let Target { run, seeds, .. } = target(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpora().join(name)).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    let inputs = files.iter().map(|file| (file.display().to_string(), fs::read(file).expect("a file")));
    let seeds = seeds().into_iter().enumerate().map(|(number, seed)| (format!("seed {number}"), seed));
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| run(input))).is_err();
    let failed: Vec<_> = inputs.chain(seeds).filter(|(_, input)| fails(input)).map(|(what, _)| what).collect();
    assert!(failed.is_empty(), "{name} fails with\n{}", failed.join("\n"));
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target")
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_left_out() {
            let replayed = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(replayed));
            let mut kept: Vec<_> =
                fs::read_dir(corpora()).expect("corpora").map(|entry| entry.expect("an entry").file_name()).collect();
            kept.sort();
            let mut replayed = replayed.map(std::ffi::OsString::from);
            replayed.sort();
            assert_eq!(kept, replayed, "each corpus has its target");
        }
    };
}

replays! {
    stun framing rtp header_extensions rtcp vp8 vp9 h264 h265 dependency_descriptor client_hello dtls sctp pipe_frames pipe_messages
    demux media_core protoo
}
