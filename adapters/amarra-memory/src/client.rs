//! Who calls a simulated server, and the fence that keeps dead processes out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One run of one process, as the simulated servers know their clients.
///
/// # Example
/// ```
/// use amarra_memory::ClientId;
/// assert_eq!(ClientId::new("orders-1", 2).to_string(), "orders-1#2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    /// The node it runs on; one process of a node talks to one server at a time.
    pub node: Arc<str>,
    /// Grows with every start of the process.
    pub incarnation: u64,
}

impl ClientId {
    /// Names the run `incarnation` of the process on `node`.
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>, incarnation: u64) -> Self {
        Self { node: node.into(), incarnation }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// Which incarnations of each node a server still serves: the newest it met, none below it, and
/// none at all of those that were disconnected.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    nodes: BTreeMap<Arc<str>, Bounds>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    newest: u64,
    served_from: u64,
}

impl Fence {
    /// Notes a client; an older incarnation of its node is refused from now on.
    pub(crate) fn connect(&mut self, client: &ClientId) {
        let bounds = self
            .nodes
            .entry(Arc::clone(&client.node))
            .or_insert(Bounds { newest: client.incarnation, served_from: client.incarnation });
        if client.incarnation > bounds.newest {
            *bounds = Bounds { newest: client.incarnation, served_from: client.incarnation };
        }
    }

    /// Refuses every incarnation of the node met so far.
    pub(crate) fn disconnect(&mut self, node: &str) {
        if let Some(bounds) = self.nodes.get_mut(node) {
            bounds.served_from = bounds.newest.saturating_add(1);
        }
    }

    /// Tells whether the client may still be served.
    pub(crate) fn serves(&self, client: &ClientId) -> bool {
        self.nodes.get(&client.node).is_some_and(|b| client.incarnation >= b.served_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_incarnation_is_refused_for_ever() {
        let mut fence = Fence::default();
        let (one, two) = (ClientId::new("a", 1), ClientId::new("a", 2));
        fence.connect(&one);
        assert!(fence.serves(&one));
        fence.disconnect("a");
        assert!(!fence.serves(&one));
        fence.connect(&one);
        assert!(!fence.serves(&one), "a disconnected incarnation came back");
        fence.connect(&two);
        assert!(fence.serves(&two) && !fence.serves(&one));
    }

    #[test]
    fn a_newer_incarnation_fences_the_older_one() {
        let mut fence = Fence::default();
        fence.connect(&ClientId::new("a", 1));
        fence.connect(&ClientId::new("a", 2));
        assert!(!fence.serves(&ClientId::new("a", 1)));
        assert!(!fence.serves(&ClientId::new("b", 9)), "a stranger was served");
    }
}
