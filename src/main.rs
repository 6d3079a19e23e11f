//! The one binary: hub, agent and command line.

fn main() {}
