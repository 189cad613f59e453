//! Publishing and consuming on Apache Kafka.
