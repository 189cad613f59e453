//! Running examples; see the binaries.
