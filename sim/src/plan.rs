//! A run's faults as data: generated from the seed, stored, edited, shrunk and replayed.

use std::collections::BTreeSet;

use amarra_core::{Entropy, SeededEntropy};
use serde::{Deserialize, Serialize};

use crate::scenario::{DATABASES, GROUPS, LINKS, NODES, POISONED, Scenario};

/// Everything that decides a run besides the seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// How many orders the workload places.
    pub(crate) orders: u32,
    /// The faults, in no particular order.
    pub(crate) faults: Vec<Fault>,
}

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $name:ident $label:literal {
        $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)?
    })+) => {
        /// One fault. Times are milliseconds after the first order; `skip` and `count` choose which
        /// operations are hit from `at_ms` on.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", deny_unknown_fields)]
        pub(crate) enum Fault {
            $(
                $(#[doc = $what])+
                #[serde(rename = $label)]
                $name { $($(#[$fmeta])* $field: $ty),* },
            )+
        }

        impl Fault {
            /// Name and meaning of every kind.
            pub(crate) const KINDS: &'static [(&'static str, &'static str)] =
                &[$(($label, concat!($($what),+))),+];

            /// Returns the name of its kind.
            pub(crate) fn kind(&self) -> &'static str {
                match self { $(Self::$name { .. } => $label,)+ }
            }
        }
    };
}

faults! {
    /// A node is killed and started again later; what it had not stored is gone.
    Crash "crash" { node: String, at_ms: u64, for_ms: u64 }
    /// A node stands still, then goes on as if nothing had happened.
    Pause "pause" { node: String, at_ms: u64, for_ms: u64 }
    /// Two nodes cannot reach each other.
    Partition "partition" { a: String, b: String, at_ms: u64, for_ms: u64 }
    /// Nothing from one node reaches another; the way back works.
    PartitionOneWay "partition-one-way" { from: String, to: String, at_ms: u64, for_ms: u64 }
    /// What a node sends is delayed, now and then by a lot.
    Latency "latency" { node: String, at_ms: u64, for_ms: u64, mean_ms: u64 }
    /// A group gets records again that it has already been given.
    DuplicateDelivery "duplicate-delivery" { group: String, at_ms: u64, skip: u32, count: u32 }
    /// Records are stored, but their publisher is not told.
    LostAcknowledgement "lost-acknowledgement" {
        database: String, at_ms: u64, skip: u32, count: u32,
    }
    /// Records are not stored, or only the first of a batch.
    FailedPublish "failed-publish" { database: String, at_ms: u64, skip: u32, count: u32 }
    /// A group hands its partitions out anew.
    Rebalance "rebalance" { group: String, at_ms: u64 }
    /// A group's offset commits do not arrive.
    LostOffsetCommit "lost-offset-commit" { group: String, at_ms: u64, skip: u32, count: u32 }
    /// A database loses the connection while it commits: applied or not, the caller cannot know.
    CommitUnknown "commit-unknown" {
        database: String, at_ms: u64, skip: u32, count: u32, applied: bool,
    }
    /// A database refuses transactions to keep them serializable.
    SerializationFailure "serialization-failure" {
        database: String, at_ms: u64, skip: u32, count: u32,
    }
    /// A database loses the connection before the commit.
    ConnectionLoss "connection-loss" { database: String, at_ms: u64, skip: u32, count: u32 }
    /// A database loses power: commits that were not synced are gone, and it starts again later.
    PowerFailure "power-failure" { database: String, at_ms: u64, for_ms: u64 }
    /// The broker goes down and comes back with what it acknowledged.
    BrokerRestart "broker-restart" { at_ms: u64, for_ms: u64 }
    /// The payment provider answers late.
    ProviderSlow "provider-slow" { at_ms: u64, for_ms: u64, delay_ms: u64 }
    /// The payment provider acts but its answer is lost.
    ProviderTimeout "provider-timeout" { at_ms: u64, skip: u32, count: u32 }
    /// The payment provider sends each webhook more than once.
    ProviderDuplicate "provider-duplicate" { at_ms: u64, for_ms: u64 }
    /// The payment provider sends webhooks in another order.
    ProviderReorder "provider-reorder" { at_ms: u64, for_ms: u64 }
    /// The payment provider refuses every request.
    ProviderOutage "provider-outage" { at_ms: u64, for_ms: u64 }
    /// Somebody else publishes a record that no consumer understands.
    Poison "poison" { topic: String, at_ms: u64 }
    /// The payment provider keeps its webhooks back, and delivers them later.
    ProviderSilent "provider-silent" { at_ms: u64, for_ms: u64 }
    /// A node's wall clock is off.
    ClockSkew "clock-skew" { node: String, at_ms: u64, offset_ms: i64 }
}

impl Plan {
    /// Draws the plan of (`seed`, `scenario`): the seed first chooses which kinds take part, so
    /// that some runs see few kinds and those often.
    pub(crate) fn generate(seed: u64, scenario: &Scenario, orders: u32) -> Self {
        let draw = Draw { entropy: SeededEntropy::new(seed, "plan"), span_ms: span_ms(orders) };
        let mut faults = Vec::new();
        for &kind in scenario.kinds {
            if draw.entropy.below(100) >= scenario.kind_percent {
                continue;
            }
            for _ in 0..=draw.entropy.below(u64::from(scenario.per_kind_max)) {
                faults.push(draw.fault(kind));
            }
        }
        Self { scenario: scenario.name.to_owned(), orders, faults }
    }

    /// Reads a plan from JSON text.
    ///
    /// # Errors
    /// One line that says where and what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        for fault in &plan.faults {
            plan.check(fault)?;
        }
        crate::scenario::find(&plan.scenario)?;
        Ok(plan)
    }

    fn check(&self, fault: &Fault) -> Result<(), String> {
        let (names, known): (Vec<&String>, BTreeSet<&str>) = match fault {
            Fault::Crash { node, .. }
            | Fault::Pause { node, .. }
            | Fault::Latency { node, .. }
            | Fault::ClockSkew { node, .. } => (vec![node], NODES.iter().copied().collect()),
            Fault::Partition { a, b, .. } | Fault::PartitionOneWay { from: a, to: b, .. } => {
                (vec![a, b], NODES.iter().copied().chain(["broker", "database"]).collect())
            }
            Fault::DuplicateDelivery { group, .. }
            | Fault::Rebalance { group, .. }
            | Fault::LostOffsetCommit { group, .. } => {
                (vec![group], GROUPS.iter().copied().collect())
            }
            Fault::LostAcknowledgement { database, .. }
            | Fault::FailedPublish { database, .. }
            | Fault::CommitUnknown { database, .. }
            | Fault::SerializationFailure { database, .. }
            | Fault::ConnectionLoss { database, .. }
            | Fault::PowerFailure { database, .. } => {
                (vec![database], DATABASES.iter().copied().collect())
            }
            Fault::Poison { topic, .. } => (vec![topic], POISONED.iter().copied().collect()),
            _ => return Ok(()),
        };
        match names.into_iter().find(|name| !known.contains(name.as_str())) {
            None => Ok(()),
            Some(name) => Err(format!(
                "{} names {name:?}, which is none of {}; nearest is {:?}",
                fault.kind(),
                known.iter().copied().collect::<Vec<_>>().join(", "),
                crate::cli::nearest(name, known.iter().copied()),
            )),
        }
    }
}

/// How long the workload places orders, in milliseconds.
pub(crate) fn span_ms(orders: u32) -> u64 {
    u64::from(orders).saturating_mul(crate::workload::ARRIVAL_MEAN_MS)
}

struct Draw {
    entropy: SeededEntropy,
    span_ms: u64,
}

impl Draw {
    fn at(&self) -> u64 {
        self.entropy.below(self.span_ms.max(1))
    }

    fn between(&self, low: u64, high: u64) -> u64 {
        low + self.entropy.below(high.saturating_sub(low).max(1))
    }

    /// Draws how long a fault lasts: one in eight lasts four times as long, beyond the timeouts of
    /// the sagas' steps.
    fn lasting(&self, low: u64, high: u64) -> u64 {
        let factor = if self.entropy.below(8) == 0 { 4 } else { 1 };
        self.between(low, high) * factor
    }

    fn pick(&self, names: &[&str]) -> String {
        let len = u64::try_from(names.len()).unwrap_or(1);
        let index = usize::try_from(self.entropy.below(len)).unwrap_or(0);
        names.get(index).copied().unwrap_or_default().to_owned()
    }

    fn count(&self, low: u64, high: u64) -> u32 {
        u32::try_from(self.between(low, high)).unwrap_or(1)
    }

    fn pair(&self) -> (String, String) {
        let len = u64::try_from(LINKS.len()).unwrap_or(1);
        let index = usize::try_from(self.entropy.below(len)).unwrap_or(0);
        let (a, b) = LINKS.get(index).copied().unwrap_or(("gateway", "orders-1"));
        if self.entropy.below(2) == 0 { (a.into(), b.into()) } else { (b.into(), a.into()) }
    }

    #[expect(clippy::too_many_lines, reason = "one arm a kind: a table, not an algorithm")]
    fn fault(&self, kind: &str) -> Fault {
        let at_ms = self.at();
        match kind {
            "crash" => {
                Fault::Crash { node: self.pick(NODES), at_ms, for_ms: self.lasting(50, 3000) }
            }
            "pause" => {
                Fault::Pause { node: self.pick(NODES), at_ms, for_ms: self.lasting(50, 4000) }
            }
            "partition" => {
                let (a, b) = self.pair();
                Fault::Partition { a, b, at_ms, for_ms: self.lasting(100, 4000) }
            }
            "partition-one-way" => {
                let (from, to) = self.pair();
                Fault::PartitionOneWay { from, to, at_ms, for_ms: self.lasting(100, 4000) }
            }
            "latency" => Fault::Latency {
                node: self.pick(NODES),
                at_ms,
                for_ms: self.lasting(500, 4000),
                mean_ms: self.between(5, 150),
            },
            "duplicate-delivery" => Fault::DuplicateDelivery {
                group: self.pick(GROUPS),
                at_ms,
                skip: self.count(0, 8),
                count: self.count(1, 6),
            },
            "lost-acknowledgement" => Fault::LostAcknowledgement {
                database: self.pick(DATABASES),
                at_ms,
                skip: self.count(0, 8),
                count: self.count(1, 4),
            },
            "failed-publish" => Fault::FailedPublish {
                database: self.pick(DATABASES),
                at_ms,
                skip: self.count(0, 8),
                count: self.count(1, 4),
            },
            "rebalance" => Fault::Rebalance { group: self.pick(GROUPS), at_ms },
            "lost-offset-commit" => Fault::LostOffsetCommit {
                group: self.pick(GROUPS),
                at_ms,
                skip: self.count(0, 6),
                count: self.count(1, 4),
            },
            "commit-unknown" => Fault::CommitUnknown {
                database: self.pick(DATABASES),
                at_ms,
                skip: self.count(0, 10),
                count: self.count(1, 4),
                applied: self.entropy.below(2) == 0,
            },
            "serialization-failure" => Fault::SerializationFailure {
                database: self.pick(DATABASES),
                at_ms,
                skip: self.count(0, 10),
                count: self.count(1, 6),
            },
            "connection-loss" => Fault::ConnectionLoss {
                database: self.pick(DATABASES),
                at_ms,
                skip: self.count(0, 10),
                count: self.count(1, 4),
            },
            "power-failure" => Fault::PowerFailure {
                database: self.pick(DATABASES),
                at_ms,
                for_ms: self.lasting(50, 2500),
            },
            "broker-restart" => Fault::BrokerRestart { at_ms, for_ms: self.lasting(50, 2000) },
            "provider-slow" => Fault::ProviderSlow {
                at_ms,
                for_ms: self.lasting(500, 4000),
                delay_ms: self.between(50, 3000),
            },
            "provider-timeout" => {
                Fault::ProviderTimeout { at_ms, skip: self.count(0, 6), count: self.count(1, 6) }
            }
            "provider-duplicate" => {
                Fault::ProviderDuplicate { at_ms, for_ms: self.lasting(500, 4000) }
            }
            "provider-reorder" => Fault::ProviderReorder { at_ms, for_ms: self.lasting(500, 4000) },
            "provider-outage" => Fault::ProviderOutage { at_ms, for_ms: self.lasting(200, 3000) },
            "provider-silent" => Fault::ProviderSilent { at_ms, for_ms: self.lasting(1000, 6000) },
            "poison" => Fault::Poison { topic: self.pick(POISONED), at_ms },
            _ => {
                let size = i64::try_from(self.between(20, 300_000)).unwrap_or(20);
                let offset_ms = if self.entropy.below(2) == 0 { size } else { -size };
                Fault::ClockSkew { node: self.pick(NODES), at_ms, offset_ms }
            }
        }
    }
}
