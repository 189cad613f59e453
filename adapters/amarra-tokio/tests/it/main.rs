//! The tests of amarra-tokio.
