#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ixgate_fuzz::checks::certificate_request(bytes));
