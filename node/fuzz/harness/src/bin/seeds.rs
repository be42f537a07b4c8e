//! Gives each target that has no corpus yet its seeds, so that a fuzzer begins with them.

use std::fs;
use std::path::Path;

use sluice_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target.name);
        if corpus.exists() {
            continue;
        }
        fs::create_dir_all(&corpus)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
