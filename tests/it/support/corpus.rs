//! The platform that `fanout demo` generates.

pub(crate) use fanout::cli::demo::corpus::{FULL_FILES, generated_platform};
pub(crate) use fanout::cli::demo::release::next_release;
