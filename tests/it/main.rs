//! The one integration-test binary.

mod parity_filter;
mod cli_basics;
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests look at the disk and run programs themselves, and fail by panicking"
)]

mod architecture;
#[allow(
    dead_code,
    reason = "a vocabulary, not every word of which is used at all times"
)]
mod support;
mod support_self_test;
