//! Which backend runs the laws of which ports, where its tests are, and what it cannot do.

/// The ports of a database, and the engines that the laws run over it.
pub(super) const STORE: &[&str] = &[
    "Store",
    "UnitOfWork",
    "Outbox",
    "OutboxLog",
    "Inbox",
    "ParkingLot",
    "ReadModel",
    "Barrier",
    "Processor",
    "Handler",
    "Command",
];

/// The ports of a broker.
pub(super) const BROKER: &[&str] = &["Transport", "Session", "Consumer"];

/// The ports of the machine.
const AMBIENT: &[&str] = &["Clock", "Timer", "Entropy"];

/// One implementation of ports.
#[derive(Debug)]
pub(super) struct Backend {
    /// What `--backend` calls it.
    pub(super) name: &'static str,
    /// Whose tests run it, in the binary `it`.
    pub(super) package: &'static str,
    /// The modules of those tests with the ports whose laws each must run.
    pub(super) runs: &'static [(&'static str, &'static [&'static [&'static str]])],
}

impl Backend {
    /// Returns the module that must run the laws of a port.
    pub(super) fn module(&self, port: &str) -> Option<&'static str> {
        let has = |groups: &[&[&str]]| groups.iter().any(|ports| ports.contains(&port));
        self.runs.iter().find(|(_, groups)| has(groups)).map(|(module, _)| *module)
    }
}

/// Every backend.
pub(super) const BACKENDS: &[Backend] = &[
    Backend {
        name: "memory",
        package: "amarra-memory",
        runs: &[("conformance", &[STORE, BROKER, AMBIENT])],
    },
    Backend {
        name: "sqlite",
        package: "amarra-sqlite",
        runs: &[("sqlite", &[STORE]), ("sqlite::bus", &[BROKER])],
    },
    Backend {
        name: "postgres-18",
        package: "amarra-postgres",
        runs: &[("conformance::pg18", &[STORE])],
    },
    Backend {
        name: "postgres-15",
        package: "amarra-postgres",
        runs: &[("conformance::pg15", &[STORE])],
    },
    Backend {
        name: "postgres-wal-18",
        package: "amarra-postgres-wal",
        runs: &[("conformance::pg18", &[&["OutboxLog"]])],
    },
    Backend {
        name: "postgres-wal-15",
        package: "amarra-postgres-wal",
        runs: &[("conformance::pg15", &[&["OutboxLog"]])],
    },
    Backend {
        name: "kafka",
        package: "amarra-kafka",
        runs: &[
            ("transport::transactional", &[&["Transport", "Session"]]),
            ("consumer::classic", &[&["Consumer"]]),
        ],
    },
    Backend {
        name: "kafka-idempotent",
        package: "amarra-kafka",
        runs: &[("transport::idempotent", &[&["Transport", "Session"]])],
    },
    Backend {
        name: "kafka-kip848",
        package: "amarra-kafka",
        runs: &[("consumer::broker_side", &[&["Consumer"]])],
    },
    Backend { name: "tokio", package: "amarra-tokio", runs: &[("conformance", &[AMBIENT])] },
    Backend {
        name: "wire",
        package: "amarra-conformance",
        runs: &[("broken::ambient", &[&["Codec"]])],
    },
];

/// A behaviour that a backend cannot have, and need not run.
#[derive(Debug)]
pub(super) struct Exclusion {
    /// The backend.
    pub(super) backend: &'static str,
    /// The behaviour's name.
    pub(super) name: &'static str,
    /// Why, for whoever chooses between backends.
    pub(super) why: &'static str,
}

/// Why a mode that does not fence at the broker cannot keep the laws about fences.
const UNFENCED: &str = "the broker does not fence an idempotent producer: an open session of an \
    older epoch finds out by the fence topic, soon rather than at once";

/// Every exclusion.
pub(super) const EXCLUSIONS: &[Exclusion] = &[
    unfenced("trn_1_a_newer_session_fences_the_older_one"),
    unfenced("trn_1_an_epoch_survives_a_crash"),
    unfenced("trn_1_of_many_that_open_at_once_the_newest_remains"),
    unfenced("trn_1_epochs_may_skip_numbers"),
    unfenced("trn_1_a_dropped_session_leaves_its_fence"),
    unfenced("trn_5_a_fenced_session_stores_nothing"),
    unfenced("trn_5_a_zombie_among_its_successors_calls_stores_nothing"),
    unfenced("trn_5_nothing_of_a_zombie_follows_its_successors_records"),
];

const fn unfenced(name: &'static str) -> Exclusion {
    Exclusion { backend: "kafka-idempotent", name, why: UNFENCED }
}

/// Returns the reason why a backend need not run a behaviour.
pub(super) fn excluded(backend: &str, name: &str) -> Option<&'static str> {
    let is_it = |e: &&Exclusion| (e.backend, e.name) == (backend, name);
    EXCLUSIONS.iter().find(is_it).map(|e| e.why)
}
