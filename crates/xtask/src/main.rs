//! The one toolbox of the repository.
fn main() {}
