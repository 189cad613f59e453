//! Measures the figures of `docs/bench` on real servers.

fn main() {}
