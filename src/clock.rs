//! The clock, as a value, so that tests can turn it.
