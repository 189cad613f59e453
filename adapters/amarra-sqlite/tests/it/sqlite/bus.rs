//! The laws of the bus, reading from memory.

type Bus = crate::bus_backend::Bus<true>;

amarra_conformance::transport_laws!(Bus);
amarra_conformance::consumer_laws!(Bus);
