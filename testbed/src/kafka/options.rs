//! How a private Kafka cluster is set up.

use std::time::Duration;

use crate::error::Error;

/// How a private Kafka cluster is set up.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Nodes, each broker and controller: 1 or 3. 1, because a broker takes 340 MB.
    pub nodes: u8,
    /// Puts a [`Proxy`](crate::Proxy) before each node, on a listener of its own whose advertised
    /// address is the proxy's.
    pub proxied: bool,
    /// The most heap of a node, in MiB, 128 to 8,192. 384, which was enough for every test.
    pub heap_mib: u32,
    /// Compiles hot code as a server in production does. Off, because it takes processor time from
    /// short tests; on for published figures.
    pub optimized: bool,
    /// Further lines of `server.properties`, which win over those of the testbed.
    pub properties: Vec<(String, String)>,
    /// How long a start may take, at least a second. 120 s, because the machine may be busy
    /// building.
    pub patience: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            proxied: false,
            heap_mib: 384,
            optimized: false,
            properties: Vec::new(),
            patience: Duration::from_secs(120),
        }
    }
}

impl KafkaOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |field: &str| Err(Error::Misuse(field.to_owned()));
        if self.nodes != 1 && self.nodes != 3 {
            return wrong("nodes must be 1 or 3");
        }
        if !(128..=8_192).contains(&self.heap_mib) {
            return wrong("heap_mib must be 128 to 8192");
        }
        if self.patience < Duration::from_secs(1) {
            return wrong("patience must be at least a second");
        }
        let odd = |s: &str| s.contains(['\n', '\r']);
        if self.properties.iter().any(|(key, value)| key.is_empty() || odd(key) || odd(value)) {
            return wrong("properties: a key is empty, or a line break is in one");
        }
        Ok(())
    }
}
