//! The shop as one process or many.

fn main() {}
