#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanout_fuzz::frame(bytes));
