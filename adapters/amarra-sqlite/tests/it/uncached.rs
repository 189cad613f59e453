//! The laws of the bus again, reading everything from the file.

type Bus = crate::bus_backend::Bus<false>;

amarra_conformance::transport_laws!(Bus);
amarra_conformance::consumer_laws!(Bus);
