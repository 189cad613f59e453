//! Private PostgreSQL and Kafka servers and a faulty TCP proxy for tests and benchmarks.
