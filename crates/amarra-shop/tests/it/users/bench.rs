//! A user service on the in-memory database.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::{AggregateId, Class, Envelope, Environment, TraceParent, Version};
use amarra_memory::{
    ClientId, DatabaseConfig, Effect, Faults, Hooks, MemoryDatabase, MemoryStore, Site, Verdict,
};
use amarra_messaging::message::Owner;
use amarra_shop::ServicePorts;
use amarra_shop::auth::{KeyConfig, Revocations, TokenVerifier, VerifierConfig};
use amarra_shop::contract::users::{Login, Refresh, Register, Secret, Tokens};
use amarra_shop::contract::{ApiError, Caller, Principal, Role, UserId};
use amarra_shop::users::{
    BootstrapAdmin, Config, Guest, PasswordConfig, SendError, Users, VerificationSender,
};
use amarra_store::{Claim, DueQuery, Store};
use async_trait::async_trait;

pub(super) const PASSWORD: &str = "correct horse battery";
pub(super) const ROOT: &str = "root@shop.example";
/// 32 bytes of base64url, all equal.
pub(super) const SEEDS: [&str; 2] =
    ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"];

/// Loses the answers of so many commits to come, with the given effect.
#[derive(Debug, Default)]
pub(super) struct CommitFaults(Mutex<Vec<Effect>>);

impl CommitFaults {
    pub(super) fn next(&self, effect: Effect) {
        self.0.lock().unwrap().push(effect);
    }
}

impl Faults for CommitFaults {
    fn at(&self, site: &Site<'_>) -> Verdict {
        if site.operation.name() != "commit" {
            return Verdict::PROCEED;
        }
        self.0.lock().unwrap().pop().map_or(Verdict::PROCEED, Verdict::of)
    }
}

/// Keeps what it is given, after failing as told.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) sent: Mutex<Vec<(UserId, String, Secret)>>,
    pub(super) failures: Mutex<Vec<Class>>,
    /// How long each send takes, the next one last.
    pub(super) delays: Mutex<Vec<Duration>>,
    pub(super) env: Mutex<Option<Environment>>,
}

#[async_trait]
impl VerificationSender for Mailbox {
    async fn send(&self, user_id: UserId, email: &str, token: &Secret) -> Result<(), SendError> {
        self.sent.lock().unwrap().push((user_id, email.to_owned(), token.clone()));
        let delay = self.delays.lock().unwrap().pop();
        if let Some(delay) = delay {
            let env = self.env.lock().unwrap().clone().unwrap();
            env.sleep(delay).await;
        }
        match self.failures.lock().unwrap().pop() {
            Some(class) => Err(SendError { class, why: "as told".into() }),
            None => Ok(()),
        }
    }
}

pub(super) struct Bench {
    pub(super) harness: Harness,
    pub(super) db: MemoryDatabase,
    pub(super) store: Arc<MemoryStore>,
    pub(super) users: Arc<Users>,
    pub(super) faults: Arc<CommitFaults>,
    pub(super) mailbox: Arc<Mailbox>,
}

pub(super) fn config() -> Config {
    let keys = KeyConfig { active: Secret::new(SEEDS[0]), standby: None };
    Config {
        password: PasswordConfig::cheapest(),
        auto_verify: true,
        bootstrap_admin: Some(BootstrapAdmin {
            email: ROOT.into(),
            password: Secret::new(PASSWORD),
        }),
        login_failures_max: 3,
        sessions_max: 3,
        ..Config::new(keys, Secret::new(SEEDS[1]))
    }
}

pub(super) fn guest() -> Guest {
    Guest { traceparent: trace(), idempotency_key: None }
}

fn trace() -> TraceParent {
    "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".parse().unwrap()
}

pub(super) fn caller(user_id: UserId, roles: &[Role]) -> Caller {
    Caller {
        principal: Principal { user_id, roles: roles.iter().copied().collect() },
        traceparent: trace(),
        idempotency_key: None,
    }
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let harness = Harness::new(11);
        let faults = Arc::new(CommitFaults::default());
        let hooks = Hooks::default().with_faults(Arc::clone(&faults) as Arc<dyn Faults>);
        let env = harness.environment("users-db");
        let db = MemoryDatabase::new("users", DatabaseConfig::default(), env, hooks).unwrap();
        let store = Arc::new(db.connect(ClientId::new("users-1", 1)));
        let mailbox = Arc::new(Mailbox::default());
        *mailbox.env.lock().unwrap() = Some(harness.environment("mailbox"));
        let ports = ServicePorts {
            store: Arc::clone(&store) as _,
            views: Arc::clone(&store) as _,
            env: harness.environment("users-1"),
        };
        let users = Users::new(ports, config, Some(Arc::clone(&mailbox) as _)).unwrap();
        Self { harness, db, store, users, faults, mailbox }
    }

    /// The same database under another configuration, as after a deployment.
    pub(super) fn redeploy(&mut self, config: Config) {
        let ports = ServicePorts {
            store: Arc::clone(&self.store) as _,
            views: Arc::clone(&self.store) as _,
            env: self.harness.environment("users-2"),
        };
        self.users = Users::new(ports, config, Some(Arc::clone(&self.mailbox) as _)).unwrap();
    }

    pub(super) fn run<F: Future>(&self, work: F) -> F::Output {
        self.harness.block_on(work)
    }

    pub(super) fn wait(&self, secs: u64) {
        self.harness.clock().advance(Duration::from_secs(secs));
    }

    pub(super) fn register(&self, email: &str) -> UserId {
        let request = Register { email: email.into(), password: Secret::new(PASSWORD) };
        self.run(self.users.register(&guest(), request)).unwrap().user_id
    }

    pub(super) fn login(&self, email: &str, password: &str) -> Result<Tokens, ApiError> {
        let request = Login { email: email.into(), password: Secret::new(password) };
        self.run(self.users.login(&guest(), request))
    }

    pub(super) fn refresh(&self, token: &Secret) -> Result<Tokens, ApiError> {
        let request = Refresh { refresh_token: token.clone() };
        self.run(self.users.refresh(&guest(), request))
    }

    /// Makes the administrator and returns a caller with her token's roles.
    pub(super) fn root(&self) -> Caller {
        self.run(self.users.bootstrap()).unwrap();
        let tokens = self.login(ROOT, PASSWORD).unwrap();
        Caller { principal: self.principal(&tokens), ..caller(uuid::Uuid::nil().into(), &[]) }
    }

    pub(super) fn principal(&self, tokens: &Tokens) -> Principal {
        let claims = self.verifier(Arc::default()).verify(tokens.access_token.expose());
        claims.unwrap().principal()
    }

    pub(super) fn verifier(&self, revocations: Arc<Revocations>) -> TokenVerifier {
        let keys = amarra_shop::auth::KeySet::from_jwks(&self.users.jwks()).unwrap();
        let clock = self.harness.clock();
        TokenVerifier::new(VerifierConfig::default(), keys, clock, revocations).unwrap()
    }

    pub(super) fn events(&self) -> Vec<Envelope> {
        self.db.inspect(|view| {
            let mut rows: Vec<_> = view.outbox().map(|r| (r.seq, r.message.clone())).collect();
            rows.sort_by_key(|(seq, _)| *seq);
            rows.into_iter().map(|(_, message)| message.envelope).collect()
        })
    }

    pub(super) fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event.kind.as_ref().to_owned()).collect()
    }

    pub(super) fn version(&self, kind: &str, id: &str) -> Version {
        let id = AggregateId::new(kind, id);
        self.db.inspect(|view| view.aggregate(&id).map_or(Version::ABSENT, |state| state.version))
    }

    /// Claims every verification that is due, for half a minute.
    pub(super) fn claim(&self, owner: &str) -> Vec<Claim> {
        self.run(self.claim_within(owner))
    }

    pub(super) async fn claim_within(&self, owner: &str) -> Vec<Claim> {
        let query = DueQuery {
            kind: "verification".into(),
            owner: Owner::from(owner),
            lease: Duration::from_secs(30),
            limit: 10,
        };
        self.store.claim_due(&query).await.unwrap()
    }

    /// Acts once on every verification that is due; returns how many were.
    pub(super) fn deliver(&self) -> usize {
        let handlers = self.users.due_handlers();
        let claims = self.claim("worker");
        self.run(async {
            for claim in &claims {
                handlers[0].on_due(claim).await.unwrap();
            }
            claims.len()
        })
    }

    /// What must hold after anything: events of a user are dense, the audit chain is intact with a
    /// row for each saved version, and nothing personal left the service.
    pub(super) fn check(&self) {
        let mut last = std::collections::BTreeMap::new();
        for event in self.events() {
            let version: &mut u64 = last.entry(event.subject.clone()).or_default();
            *version += 1;
            assert_eq!(
                event.subject_version.get(),
                *version,
                "{} of {}",
                event.kind,
                event.subject
            );
            assert_eq!(event.partition_key.as_str(), event.subject.id.as_ref());
            let text = String::from_utf8(event.data.to_vec()).unwrap();
            assert!(!text.contains("shop.example") && !text.contains("correct"), "{text}");
        }
        self.db.inspect(|view| {
            let rows = view.audit();
            amarra_store::audit::verify_chain(0, [0; 32], rows).unwrap();
            let kinds = ["user", "credential", "email", "sessions", "admins", "verification"];
            let saved: u64 = kinds
                .iter()
                .flat_map(|kind| view.aggregates(kind))
                .map(|(_, state)| state.version.get())
                .sum();
            assert_eq!(u64::try_from(rows.len()).unwrap(), saved);
            for row in rows {
                assert!(!format!("{row:?}").contains("shop.example"));
            }
        });
    }
}
