//! The tests of amarra-postgres.
