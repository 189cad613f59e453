//! Typed saga definitions, a pure engine and its driver, over the local transaction.
