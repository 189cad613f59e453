//! The tests of amarra-kafka.
