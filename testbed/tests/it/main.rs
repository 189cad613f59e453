//! The tests of testbed.
