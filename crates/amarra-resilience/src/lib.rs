//! Circuit breaker, retry, budget, deadline, bulkhead and rate limiter on the ports.
