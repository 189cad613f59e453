//! The books kept of repeated calls: how often, how soon, and from which purse.

use std::collections::BTreeMap;
use std::time::Duration;

use amarra_core::Monotonic;
use amarra_resilience::Policy;
use amarra_resilience::retry::{BudgetConfig, Jitter};

use super::{Broken, Ended};

#[derive(Debug, Clone, Copy)]
struct Call {
    sends: u32,
    idempotent: bool,
    /// How its last try ended, and when.
    last: Option<(Ended, Monotonic)>,
}

/// The calls to one callee, by what their tries have in common.
#[derive(Debug)]
pub(crate) struct Calls {
    rules: Option<(Policy, BudgetConfig)>,
    since: Monotonic,
    calls: BTreeMap<String, Call>,
    repeats: u64,
    /// Repetitions in a row that came after exactly the longest wait.
    punctual: u32,
}

/// How near a wait is to its bound that counts as exactly so long: the timer's own delay.
const NEAR: Duration = Duration::from_micros(200);
/// So many in a row are no accident.
const PUNCTUAL_MAX: u32 = 4;

impl Calls {
    /// Opens the books.
    pub(super) fn new(rules: Option<(Policy, BudgetConfig)>, since: Monotonic) -> Self {
        Self { rules, since, calls: BTreeMap::new(), repeats: 0, punctual: 0 }
    }

    /// Notes a try.
    pub(super) fn sent(
        &mut self,
        now: Monotonic,
        name: &str,
        idempotent: bool,
        broken: &mut Vec<Broken>,
    ) {
        let new = Call { sends: 0, idempotent, last: None };
        let call = self.calls.entry(name.to_owned()).or_insert(new);
        call.sends += 1;
        let Call { sends, idempotent, last } = *call;
        if sends == 1 {
            return;
        }
        self.repeats += 1;
        let attempts_max = self.rules.map_or(1, |(policy, _)| policy.attempts_max);
        if sends > attempts_max {
            broken.push(("RTY-1", format!("was sent try {sends} of {name}")));
        }
        let in_doubt = matches!(last, Some((Ended::Unknown | Ended::Dropped, _)));
        if in_doubt && !idempotent {
            broken.push(("RTY-2", format!("was sent {name} again while in doubt")));
        }
        let Some((policy, budget)) = self.rules else { return };
        if let Some((_, ended)) = last {
            self.check_jitter(&policy, sends, now.since(ended), broken);
        }
        let first_tries = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        let passed = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        let earned = budget.per_call.of(first_tries)
            + passed * u64::from(budget.per_second_milli) / 1_000_000
            + 1;
        let most = u64::from(budget.tokens_max) + earned;
        if self.repeats > most {
            let repeats = self.repeats;
            let what = format!("was sent {repeats} repetitions of {first_tries} calls");
            broken.push(("BUD-1", format!("{what}: {most} are paid for")));
        }
    }

    /// Notes how a try ended.
    pub(super) fn ended(&mut self, now: Monotonic, name: &str, ended: Ended) {
        if let Some(call) = self.calls.get_mut(name) {
            call.last = Some((ended, now));
        }
    }

    fn check_jitter(
        &mut self,
        policy: &Policy,
        sends: u32,
        waited: Duration,
        broken: &mut Vec<Broken>,
    ) {
        let full = policy.base.saturating_mul(1 << (sends.saturating_sub(2)).min(20));
        let full = full.min(policy.cap);
        let punctual = waited >= full && waited <= full + NEAR;
        self.punctual = if punctual { self.punctual + 1 } else { 0 };
        if policy.jitter != Jitter::None && self.punctual >= PUNCTUAL_MAX {
            let what = format!("was asked again after exactly {full:?}, {PUNCTUAL_MAX} times");
            broken.push((super::JITTER, what));
        }
    }
}
