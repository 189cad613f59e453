//! The laws of every port as named tests, for adapter authors.
