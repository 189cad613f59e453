//! Relay, runtime and processor together on the in-memory servers, with faults.
