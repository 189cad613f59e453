//! The registry of definitions, and the way to a saga in a unit of work.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::AggregateId;
use amarra_store::{Aggregate, Loaded, Session};
use serde::Serialize;

use crate::definition::Saga;
use crate::engine::{Input, Outcome};
use crate::error::SagaError;
use crate::instance::{Instance, SagaLog, Shell};
use crate::request::SagaId;
use crate::transition::Progress;

/// Bounds of stored sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SagasConfig {
    /// Log entries kept before the older half is folded into a snapshot, at least 2. A saga of `n`
    /// steps that meets no failure logs `2n + 2`; the default keeps every log of ordinary size
    /// whole.
    pub log_events_max: usize,
}

impl Default for SagasConfig {
    /// 512 entries.
    fn default() -> Self {
        Self { log_events_max: 512 }
    }
}

impl SagasConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The name of the field out of its range, and what the range is.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.log_events_max < 2 {
            return Err("log_events_max must be at least 2");
        }
        Ok(())
    }
}

/// Every definition a service runs, in every version that is in flight.
///
/// A unit of work that also changes another aggregate locks that one first when its kind sorts
/// before `saga`, as [`AggregateId`] orders them: name both in the handler's `touches`.
#[derive(Debug, Clone)]
pub struct Sagas {
    shell: Shell,
    sagas: BTreeMap<(Arc<str>, u32), Saga>,
}

impl Sagas {
    /// Makes an empty registry; `source` names the service in the envelopes of commands.
    #[must_use]
    pub fn new(source: &str) -> Self {
        let SagasConfig { log_events_max } = SagasConfig::default();
        Self { shell: Shell { source: source.into(), log_events_max }, sagas: BTreeMap::new() }
    }

    /// Sets the bounds.
    ///
    /// # Errors
    /// See [`SagasConfig::validate`].
    pub fn configure(mut self, config: SagasConfig) -> Result<Self, &'static str> {
        config.validate()?;
        self.shell.log_events_max = config.log_events_max;
        Ok(self)
    }

    /// Registers a definition.
    ///
    /// # Errors
    /// [`SagaError::Doubled`] when its name and version are taken.
    pub fn with(mut self, saga: Saga) -> Result<Self, SagaError> {
        let definition = saga.definition();
        let (name, version) = (Arc::clone(definition.name()), definition.version());
        if self.sagas.contains_key(&(Arc::clone(&name), version)) {
            return Err(SagaError::Doubled { name, version });
        }
        self.sagas.insert((name, version), saga);
        Ok(self)
    }

    /// Names the aggregate of a saga.
    #[must_use]
    pub fn aggregate_id(id: &SagaId) -> AggregateId {
        SagaLog::aggregate_id(id.as_str())
    }

    /// Starts a saga of the newest version of definition `name`. `Stale` when it was started
    /// before.
    ///
    /// # Errors
    /// [`SagaError`]; the unit must then be rolled back.
    pub async fn start<I: Serialize + Sync>(
        &self,
        session: &mut Session<'_>,
        name: &str,
        id: &SagaId,
        input: &I,
    ) -> Result<Progress, SagaError> {
        let loaded: Loaded<SagaLog> = session.load(id.as_str()).await?;
        if loaded.state.is_some() {
            let status = self.instance(id, loaded)?.status();
            return Ok(Progress { outcome: Outcome::Stale, transitions: Vec::new(), status });
        }
        let saga = self.newest(name)?;
        let definition = saga.definition();
        let log = SagaLog {
            definition: Arc::clone(definition.name()),
            version: definition.version(),
            fingerprint: definition.fingerprint(),
            cause: session.cause().clone(),
            base: None,
            events: Vec::new(),
        };
        let input = serde_json::to_value(input)
            .map_err(|source| SagaError::Input { id: id.clone(), source })?;
        let mut instance = Instance::new(id.clone(), saga.clone(), self.shell.clone(), loaded, log);
        instance.input(session, Input::Start { id: id.clone(), input: Arc::new(input) }).await
    }

    /// Locks and loads a saga.
    ///
    /// # Errors
    /// [`SagaError::NotFound`], and any other [`SagaError`].
    pub async fn load(
        &self,
        session: &mut Session<'_>,
        id: &SagaId,
    ) -> Result<Instance, SagaError> {
        let loaded: Loaded<SagaLog> = session.load(id.as_str()).await?;
        self.instance(id, loaded)
    }

    /// Locks and loads a saga and gives it one input.
    ///
    /// # Errors
    /// [`SagaError`]; the unit must then be rolled back.
    pub async fn input(
        &self,
        session: &mut Session<'_>,
        id: &SagaId,
        input: Input,
    ) -> Result<Progress, SagaError> {
        self.load(session, id).await?.input(session, input).await
    }

    fn newest(&self, name: &str) -> Result<&Saga, SagaError> {
        let name: Arc<str> = name.into();
        let versions = (Arc::clone(&name), 0)..=(Arc::clone(&name), u32::MAX);
        let newest = self.sagas.range(versions).next_back().map(|(_, saga)| saga);
        newest.ok_or(SagaError::NoDefinition { name, version: None })
    }

    fn instance(&self, id: &SagaId, mut loaded: Loaded<SagaLog>) -> Result<Instance, SagaError> {
        let log = loaded.state.take().ok_or_else(|| SagaError::NotFound(id.clone()))?;
        let (name, version) = (Arc::clone(&log.definition), log.version);
        let Some(saga) = self.sagas.get(&(Arc::clone(&name), version)) else {
            return Err(SagaError::NoDefinition { name, version: Some(version) });
        };
        let found = saga.definition().fingerprint();
        if found != log.fingerprint {
            let log = log.fingerprint;
            return Err(SagaError::Changed { id: id.clone(), name, version, log, found });
        }
        Ok(Instance::new(id.clone(), saga.clone(), self.shell.clone(), loaded, log))
    }
}
