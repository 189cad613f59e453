//! The tests of amarra.
