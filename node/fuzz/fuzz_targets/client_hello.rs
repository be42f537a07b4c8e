#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::client_hello::run(data));
