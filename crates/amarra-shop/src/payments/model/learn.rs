//! Facts: what the provider is known to have done, from answers, webhooks and status queries.

use amarra_core::Timestamp;

use super::{Attempt, Breach, Capture, Effects, Leg, Payment, Progress, Rules, Void};
use crate::payments::journal::JournalEntry;
use crate::payments::provider_port::{Operation, OperationKind, OperationOutcome, ProviderAnswer};

/// What a fact meant to the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// It is about an operation of this payment.
    Known(Effects),
    /// It is about an operation this payment has never asked for, and changes nothing.
    Unmatched,
}

impl Payment {
    /// Takes note of one operation at the provider. The same fact again changes and tells nothing.
    ///
    /// # Errors
    /// [`Breach`]; the payment must then not be saved.
    pub fn learn(
        &mut self,
        fact: &Operation,
        (now, rules): (Timestamp, Rules),
    ) -> Result<Learned, Breach> {
        let learned = match (fact.kind, &fact.outcome) {
            (OperationKind::Authorize, OperationOutcome::Approved(answer)) => {
                self.learn_authorized(&fact.key, answer)?
            }
            (OperationKind::Authorize, OperationOutcome::Rejected { reason, retryable }) => {
                self.learn_declined(&fact.key, reason, *retryable)?
            }
            (OperationKind::Capture, OperationOutcome::Approved(answer)) => {
                self.learn_captured(&fact.key, answer, now)?
            }
            (OperationKind::Capture, OperationOutcome::Rejected { reason, retryable }) => {
                self.learn_not_captured(&fact.key, reason, *retryable)?
            }
            (OperationKind::Void, OperationOutcome::Approved(answer)) => {
                self.learn_voided(&fact.key, answer)
            }
            (OperationKind::Void, OperationOutcome::Rejected { reason, .. }) => {
                self.learn_not_voided(&fact.key, reason, rules)
            }
            (OperationKind::Refund, outcome) => self.learn_refund(&fact.key, outcome, now)?,
        };
        self.check()?;
        Ok(learned.map_or(Learned::Unmatched, Learned::Known))
    }

    /// Takes note of everything the provider has on record for the order, and of what it has not:
    /// an unknown operation that is missing there is sent again with its key, unless it is to be
    /// given up.
    ///
    /// # Errors
    /// [`Breach`]; the payment must then not be saved.
    pub fn settle(
        &mut self,
        record: &[Operation],
        (now, rules): (Timestamp, Rules),
    ) -> Result<Effects, Breach> {
        let mut effects = Effects::default();
        for fact in record {
            if let Learned::Known(more) = self.learn(fact, (now, rules))? {
                effects.events.extend(more.events);
                effects.entries.extend(more.entries);
            }
        }
        if let Some(void) = &mut self.void {
            void.rechecks_left = void.rechecks_left.saturating_sub(1);
        }
        let missing = |leg: &Leg| leg.is_unknown() && !record.iter().any(|o| o.key == leg.key);
        let lost = self.attempts.last().is_some_and(|attempt| missing(&attempt.leg));
        if lost && self.void.as_ref().is_some_and(|void| void.leg.is_open()) {
            self.abandon(&mut effects, rules);
        } else if let Some(attempt) = self.attempts.last_mut().filter(|_| lost) {
            attempt.leg.send_again();
        }
        let capture = self.capture.iter_mut().map(|capture| &mut capture.leg);
        let void = self.void.iter_mut().map(|void| &mut void.leg);
        let refunds = self.refunds.iter_mut().map(|refund| &mut refund.leg);
        let legs = capture.chain(void).chain(refunds);
        legs.filter(|leg| missing(leg)).for_each(Leg::send_again);
        Ok(effects)
    }

    /// Gives up an attempt the provider does not know of. It may still be on its way, so the
    /// provider is asked again later.
    fn abandon(&mut self, effects: &mut Effects, rules: Rules) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.leg.progress = Progress::Abandoned;
        }
        if let Some(Attempt { leg, .. }) = self.attempts.last() {
            for request in &leg.requests {
                effects.tell(self.failed(request, "voided", false), &leg.cause);
            }
        }
        self.close_void(effects, String::new(), rules.void_rechecks);
    }

    /// Ends an open void and answers its requests.
    fn close_void(&mut self, effects: &mut Effects, psp_ref: String, rechecks: u32) {
        let Some(void) = self.void.as_mut().filter(|void| void.leg.is_open()) else { return };
        void.leg.progress = Progress::Done { psp_ref };
        void.rechecks_left = rechecks;
        if let Some(Void { leg, .. }) = &self.void {
            for request in &leg.requests {
                effects.tell(self.voided(request), &leg.cause);
            }
        }
    }

    fn learn_authorized(
        &mut self,
        key: &str,
        answer: &ProviderAnswer,
    ) -> Result<Option<Effects>, Breach> {
        let mut effects = Effects::default();
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.leg.key == key) else {
            return Ok(None);
        };
        let contradiction = || Breach::Contradiction { key: key.to_owned() };
        match attempt.leg.progress {
            Progress::Done { .. } => return Ok(Some(effects)),
            Progress::Rejected { .. } => return Err(contradiction()),
            Progress::Pending | Progress::Unknown | Progress::Abandoned => {}
        }
        if attempt.amount != answer.amount {
            return Err(contradiction());
        }
        attempt.leg.progress = Progress::Done { psp_ref: answer.psp_ref.clone() };
        let Attempt { leg, amount, .. } = attempt.clone();
        match &mut self.void {
            // A success that comes after the void is voided in its turn, under a new key, since the
            // old one has its answer.
            Some(void) if !void.leg.is_open() => renew(void),
            void => {
                let given_up = void.is_some();
                for request in &leg.requests {
                    let event = if given_up {
                        self.failed(request, "voided", false)
                    } else {
                        self.authorized_event(request, amount)
                    };
                    effects.tell(event, &leg.cause);
                }
            }
        }
        Ok(Some(effects))
    }

    fn learn_declined(
        &mut self,
        key: &str,
        reason: &str,
        retryable: bool,
    ) -> Result<Option<Effects>, Breach> {
        let mut effects = Effects::default();
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.leg.key == key) else {
            return Ok(None);
        };
        let told = attempt.leg.progress == Progress::Abandoned;
        match attempt.leg.progress {
            Progress::Rejected { .. } => return Ok(Some(effects)),
            Progress::Done { .. } => return Err(Breach::Contradiction { key: key.to_owned() }),
            Progress::Pending | Progress::Unknown | Progress::Abandoned => {}
        }
        attempt.leg.progress = Progress::Rejected { reason: reason.to_owned(), retryable };
        if let Some(Attempt { leg, .. }) = self.attempts.iter().find(|a| a.leg.key == key && !told)
        {
            for request in &leg.requests {
                effects.tell(self.failed(request, reason, retryable), &leg.cause);
            }
        }
        self.close_void(&mut effects, String::new(), 0);
        Ok(Some(effects))
    }

    fn learn_captured(
        &mut self,
        key: &str,
        answer: &ProviderAnswer,
        now: Timestamp,
    ) -> Result<Option<Effects>, Breach> {
        let Some(done) = self.attempts.iter().find(|attempt| attempt.leg.is_done()) else {
            return Ok(self.ask_about_authorization());
        };
        let mut effects = Effects::default();
        // A capture this payment never asked for, as by the provider's staff, counts all the same.
        let leg = Leg {
            key: key.to_owned(),
            requests: Vec::new(),
            progress: Progress::Unknown,
            cause: done.leg.cause.clone(),
        };
        let unasked = Capture { leg, amount: answer.amount, captured_at: None };
        let capture = self.capture.get_or_insert(unasked);
        let contradiction = || Breach::Contradiction { key: key.to_owned() };
        if capture.leg.key != key {
            return Err(Breach::Twice { kind: "capture", key: key.to_owned() });
        }
        match capture.leg.progress {
            Progress::Done { .. } => return Ok(Some(effects)),
            Progress::Rejected { .. } => return Err(contradiction()),
            Progress::Pending | Progress::Unknown | Progress::Abandoned => {}
        }
        if capture.amount != answer.amount {
            return Err(contradiction());
        }
        capture.leg.progress = Progress::Done { psp_ref: answer.psp_ref.clone() };
        capture.captured_at = Some(now);
        let (leg, mut asked) = (capture.leg.clone(), capture.leg.requests.clone());
        if let Some(void) = &mut self.void {
            // A void that waits hears that it came too late; whoever sent it has to refund.
            if void.leg.is_open() {
                asked.extend(void.leg.requests.iter().cloned());
            }
            void.leg.progress =
                Progress::Rejected { reason: "captured".to_owned(), retryable: false };
            void.rechecks_left = 0;
        }
        if asked.is_empty() {
            asked.push(String::new());
        }
        for event in asked.iter().filter_map(|request| self.succeeded(request)) {
            effects.tell(event, &leg.cause);
        }
        let entry = JournalEntry::capture(self.order_id, answer.amount, &answer.psp_ref, now);
        effects.entries.push(entry);
        Ok(Some(effects))
    }

    /// A capture without a known authorization: the provider's whole record tells both in order.
    fn ask_about_authorization(&mut self) -> Option<Effects> {
        let attempt = self.attempts.last_mut()?;
        if matches!(attempt.leg.progress, Progress::Pending | Progress::Abandoned) {
            attempt.leg.progress = Progress::Unknown;
        }
        Some(Effects::default())
    }

    fn learn_not_captured(
        &mut self,
        key: &str,
        reason: &str,
        retryable: bool,
    ) -> Result<Option<Effects>, Breach> {
        let mut effects = Effects::default();
        let Some(capture) = self.capture.as_mut().filter(|c| c.leg.key == key) else {
            return Ok(None);
        };
        match capture.leg.progress {
            Progress::Rejected { .. } | Progress::Abandoned => return Ok(Some(effects)),
            Progress::Done { .. } => return Err(Breach::Contradiction { key: key.to_owned() }),
            Progress::Pending | Progress::Unknown => {}
        }
        capture.leg.progress = Progress::Rejected { reason: reason.to_owned(), retryable };
        let leg = capture.leg.clone();
        for request in &leg.requests {
            effects.tell(self.failed(request, reason, retryable), &leg.cause);
        }
        // What will not be captured must not stay blocked on the customer's account.
        let key = format!("{}:void:{}", self.order_id, leg.key);
        self.void.get_or_insert_with(|| Void {
            leg: Leg { key, requests: Vec::new(), progress: Progress::Pending, cause: leg.cause },
            renewals: 0,
            rechecks_left: 0,
        });
        Ok(Some(effects))
    }

    fn learn_voided(&mut self, key: &str, answer: &ProviderAnswer) -> Option<Effects> {
        let mut effects = Effects::default();
        let attempt = self.attempts.last()?;
        let void = self.void.get_or_insert_with(|| Void {
            leg: Leg {
                key: key.to_owned(),
                requests: vec![String::new()],
                progress: Progress::Pending,
                cause: attempt.leg.cause.clone(),
            },
            renewals: 0,
            rechecks_left: 0,
        });
        if void.leg.key != key || !void.leg.is_open() {
            return Some(effects);
        }
        self.close_void(&mut effects, answer.psp_ref.clone(), 0);
        if let Some(capture) = self.capture.as_mut().filter(|c| c.leg.is_open()) {
            capture.leg.progress = Progress::Abandoned;
            let leg = capture.leg.clone();
            for request in &leg.requests {
                effects.tell(self.failed(request, "voided", false), &leg.cause);
            }
        }
        Some(effects)
    }

    fn learn_not_voided(&mut self, key: &str, reason: &str, rules: Rules) -> Option<Effects> {
        let mut effects = Effects::default();
        let void = self.void.as_mut().filter(|void| void.leg.key == key)?;
        if void.leg.is_open() {
            match reason {
                "captured" => void.leg.progress = Progress::Unknown,
                "not_found" => self.close_void(&mut effects, String::new(), rules.void_rechecks),
                _ => {
                    let asked = std::mem::take(&mut void.leg.requests);
                    renew(void);
                    void.leg.requests = asked;
                }
            }
        }
        Some(effects)
    }

    fn learn_refund(
        &mut self,
        key: &str,
        outcome: &OperationOutcome,
        now: Timestamp,
    ) -> Result<Option<Effects>, Breach> {
        let mut effects = Effects::default();
        let Some(refund) = self.refunds.iter_mut().find(|refund| refund.leg.key == key) else {
            return Ok(None);
        };
        let contradiction = || Err(Breach::Contradiction { key: key.to_owned() });
        match (&refund.leg.progress, outcome) {
            (Progress::Done { .. }, OperationOutcome::Approved(_))
            | (Progress::Rejected { .. }, OperationOutcome::Rejected { .. }) => {
                return Ok(Some(effects));
            }
            (Progress::Done { .. } | Progress::Rejected { .. }, _) => return contradiction(),
            (Progress::Pending | Progress::Unknown | Progress::Abandoned, _) => {}
        }
        match outcome {
            OperationOutcome::Approved(answer) if answer.amount != refund.amount => {
                return contradiction();
            }
            OperationOutcome::Approved(ProviderAnswer { psp_ref, amount }) => {
                refund.leg.progress = Progress::Done { psp_ref: psp_ref.clone() };
                let ids = (self.order_id, refund.refund_id);
                effects.entries.push(JournalEntry::refund(ids, *amount, psp_ref, now));
            }
            OperationOutcome::Rejected { reason, retryable } => {
                let (reason, retryable) = (reason.clone(), *retryable);
                refund.leg.progress = Progress::Rejected { reason, retryable };
            }
        }
        let refund = refund.clone();
        let told = refund.leg.requests.iter().filter_map(|r| self.refund_event(&refund, r));
        told.for_each(|event| effects.tell(event, &refund.leg.cause));
        Ok(Some(effects))
    }
}

/// Decides a void anew under another key. Its requests have been answered.
fn renew(void: &mut Void) {
    let before = void.renewals;
    void.renewals = before.saturating_add(1);
    let base = void.leg.key.strip_suffix(&format!("#{before}")).unwrap_or(&void.leg.key);
    void.leg.key = format!("{base}#{}", void.renewals);
    void.leg.requests.clear();
    void.leg.progress = Progress::Pending;
    void.rechecks_left = 0;
}
