//! The customers: an open-loop workload through the gateway, and what they see.

mod customer;
mod http;
mod newcomer;
mod opening;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Entropy, Environment, SeededEntropy};
use futures_util::future::join;
use madsim::runtime::{Handle, NodeHandle};

use crate::env::{Skew, environment};
use crate::node::mailbox::Mailbox;
use crate::world::{CLIENT, Cluster};

pub(crate) use self::http::Shopfront;

/// The mean time between two orders, in milliseconds.
pub(crate) const ARRIVAL_MEAN_MS: u64 = 150;

/// One of so many orders brings somebody new to the shop.
const NEWCOMER_EVERY: u32 = 10;

/// Customers of a run.
const CUSTOMERS: usize = 5;

/// Something a customer saw that should not have been, with the invariant it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The invariant's name.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

/// What the customers share.
#[derive(Debug)]
pub(crate) struct State {
    front: Shopfront,
    env: Environment,
    entropy: SeededEntropy,
    mailbox: Arc<Mailbox>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    open: u32,
    refused: u64,
    complaints: Vec<Complaint>,
    /// Orders in the order they were placed, with the customer.
    placed: Vec<(String, usize)>,
}

/// The customers, on a node of their own.
pub(crate) struct Customers {
    node: NodeHandle,
    state: Arc<State>,
}

/// Opens the shop: products, prices, stock, and accounts for the customers.
///
/// # Errors
/// When an account or product cannot be made within a minute of simulated time.
pub(crate) async fn prepare(cluster: &Arc<Cluster>) -> Result<Customers, String> {
    let node = Handle::current().get_node(CLIENT).ok_or("there is no node for the customers")?;
    let env = environment(cluster.epoch, Skew::default(), cluster.seed, CLIENT);
    let entropy = SeededEntropy::new(cluster.seed, "workload");
    let mailbox = Arc::clone(&cluster.mailbox);
    let opening = {
        let (env, mailbox) = (env.clone(), Arc::clone(&mailbox));
        async move { opening::open(env, &mailbox).await }
    };
    let front = node.spawn(opening).await.map_err(|e| e.to_string())??;
    let state = State { front, env, entropy, mailbox, seen: Mutex::default() };
    Ok(Customers { node, state: Arc::new(state) })
}

impl Customers {
    /// Places orders at random times, whether or not earlier ones were answered; returns when the
    /// last one was sent.
    pub(crate) async fn shop(&self, orders: u32) {
        for number in 0..orders {
            let wait = self.state.entropy.below(2 * ARRIVAL_MEAN_MS);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            self.state.lock().open += 1;
            let state = Arc::clone(&self.state);
            let plan = customer::Errand::draw(&state.entropy, number, CUSTOMERS);
            self.node.spawn(async move {
                let newcomer = async {
                    if number % NEWCOMER_EVERY == 1 {
                        newcomer::run(&state, number).await;
                    }
                };
                join(customer::run(&state, &plan), newcomer).await;
                state.lock().open -= 1;
            });
        }
    }

    /// Tells whether every customer is done, whatever came of it.
    pub(crate) fn are_done(&self) -> bool {
        self.state.lock().open == 0
    }

    /// Lets every customer look at the orders once everything is at rest.
    pub(crate) async fn look_once_more(&self) {
        let state = Arc::clone(&self.state);
        self.node.spawn(async move { customer::review(&state).await }).await.ok();
    }

    /// Returns what the customers saw that should not have been.
    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        self.state.lock().complaints.clone()
    }

    /// Returns how many orders were refused or given up.
    pub(crate) fn refused(&self) -> u64 {
        self.state.lock().refused
    }

    /// Returns the orders in the order they were placed.
    pub(crate) fn order_ids(&self) -> Vec<String> {
        self.state.lock().placed.iter().map(|(id, _)| id.clone()).collect()
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, invariant: &'static str, what: String) {
        let mut seen = self.lock();
        if seen.complaints.len() < 10 {
            seen.complaints.push(Complaint { invariant, what });
        }
    }

    /// Returns the orders of each customer.
    fn by_customer(&self) -> BTreeMap<usize, Vec<String>> {
        let mut map: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (id, customer) in &self.lock().placed {
            map.entry(*customer).or_default().push(id.clone());
        }
        map
    }
}
