//! The one integration-test binary.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests look at the disk and run programs themselves, and fail by panicking"
)]

mod agent;
mod architecture;
mod cli;
mod cli_basics;
mod counts;
mod demo;
mod documents;
mod fuzz_corpus;
mod host_self_test;
mod hostile;
mod parity_filter;
mod race;
mod readme;
mod real;
mod serve;
mod soak;
mod ssh_bootstrap;
#[allow(
    dead_code,
    reason = "a vocabulary, not every word of which is used at all times"
)]
mod support;
mod support_self_test;
mod sync;
