//! apache.
