//! The `sluice-loadtest` binary.

fn main() -> std::process::ExitCode {
    sluice_loadtest::cli::main()
}
