//! Ten defects found in circuit breakers and retry budgets, as a suite any crate can be run
//! through.
//!
//! Implement [`Subject`] for a breaker, [`run`] it, and read the [`Report`]. [`Amarra`] is this
//! crate's own, and an example. Nothing here reads a clock: a subject lets time pass as it can, by
//! a virtual clock or by sleeping.
//!
//! | probe | defect |
//! |---|---|
//! | P1 | half-open admits the whole herd |
//! | P2 | a cancelled probe takes its permit along |
//! | P3 | a result of an earlier period decides for the probe |
//! | P4 | panics are not failures |
//! | P5 | a probe that never ends keeps the breaker half-open for ever |
//! | P6 | the window never slides |
//! | P7 | every cycle of states leaks memory |
//! | P8 | a call in flight keeps others waiting, or other code's garbage alive |
//! | P9 | the open wait ignores a virtual clock |
//! | P10 | the budget rounds its share, or replays idle time |

mod ours;
mod probes;
mod work;

use std::fmt;
use std::time::Duration;

pub use ours::Amarra;
pub use work::{Answer, Work, start};

/// How a breaker is set up for a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// How many calls the rate is taken over; half of them failed open the breaker.
    pub window: u32,
    /// Fewer calls never open it.
    pub calls_min: u32,
    /// How many calls are admitted half-open, where that can be said.
    pub permits: u32,
    /// How long the first open period lasts, without jitter.
    pub open_wait: Duration,
    /// How long a half-open period may last, where that can be said.
    pub half_open_wait: Duration,
}

/// A crate under examination.
pub trait Subject {
    /// Returns its name and version.
    fn name(&self) -> &str;

    /// Makes a breaker, `None` when there is none to make.
    fn breaker(&self, setup: Setup) -> Option<Box<dyn Guard>>;

    /// Makes an empty retry budget that earns `percent` of a retry per call and holds 1000, `None`
    /// when there is none to make.
    fn purse(&self, percent: u8) -> Option<Box<dyn Purse>>;

    /// Lets `time` pass, really or virtually.
    fn pass(&self, time: Duration);

    /// Moves whatever virtual clock there is, and nothing else.
    fn warp(&self, time: Duration);

    /// Runs `work` and returns how many bytes it left allocated, `None` when that is not measured.
    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64>;
}

/// A breaker under examination.
pub trait Guard {
    /// Begins a call, `None` when it is refused.
    fn start(&self) -> Option<Box<dyn Call + '_>>;

    /// Returns how many bytes of garbage of other code could not be freed while a call was in
    /// flight, `None` when the breaker shares no reclamation with other code.
    fn garbage_held(&self) -> Option<i64> {
        None
    }
}

/// A call in flight.
pub trait Call {
    /// Ends it with an answer.
    fn finish(self: Box<Self>, ok: bool);

    /// Drops it.
    fn cancel(self: Box<Self>);

    /// Lets it panic.
    fn panic(self: Box<Self>);
}

/// A retry budget under examination.
pub trait Purse {
    /// Notes a call.
    fn deposit(&self);

    /// Takes a retry, if there is one.
    fn withdraw(&self) -> bool;

    /// Lets a month pass without a call and returns how much longer the next deposit took than one
    /// after a second, in thousandths; `None` when that is not measured.
    fn idle_month(&self) -> Option<u64> {
        None
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The defect is not there.
    Sound,
    /// The defect is there.
    Defect,
    /// There is nothing to examine.
    Absent,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sound => "sound",
            Self::Defect => "defect",
            Self::Absent => "absent",
        })
    }
}

/// One probe and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The probe, `P1` to `P10`.
    pub probe: &'static str,
    /// Whether the defect is there.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
}

/// What all probes found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who was examined.
    pub subject: String,
    /// One finding a probe, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns how many defects there are.
    #[must_use]
    pub fn defects(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Defect).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { probe, verdict, seen } in &self.findings {
            writeln!(f, "{:24} {probe:4} {verdict:7} {seen}", self.subject)?;
        }
        Ok(())
    }
}

/// Runs every probe against `subject`.
///
/// # Example
/// ```
/// use amarra_resilience::suite::{Amarra, run};
/// assert_eq!(run(&Amarra::default()).defects(), 0);
/// ```
#[must_use]
pub fn run(subject: &dyn Subject) -> Report {
    let findings = probes::ALL
        .iter()
        .map(|(probe, examine)| {
            let (verdict, seen) = examine(subject);
            Finding { probe, verdict, seen }
        })
        .collect();
    Report { subject: subject.name().to_owned(), findings }
}
