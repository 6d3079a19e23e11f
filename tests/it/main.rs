//! The one integration-test binary.

mod parity_filter;
mod cli_basics;
