//! The tests of amarra-sqlite.
