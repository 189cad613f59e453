//! Clock, timer, entropy and a task group for real time on tokio.
