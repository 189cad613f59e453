//! The command line of the shop.

fn main() {}
