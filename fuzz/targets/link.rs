#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ixgate_fuzz::checks::link(bytes));
