#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ixgate_fuzz::checks::crypto_batch(bytes));
