//! Real platforms, and large ones.

mod large;
mod platforms;
