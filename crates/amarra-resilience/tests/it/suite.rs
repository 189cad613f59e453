//! The suite of known defects, run against this crate; and against subjects that have them.

use std::cell::Cell;
use std::time::Duration;

use amarra_resilience::suite::{Amarra, Call, Guard, Purse, Setup, Subject, Verdict, run};

/// This crate with leaks measured, which takes an allocator that counts.
#[derive(Default)]
struct Measured(Amarra);

impl Subject for Measured {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn breaker(&self, setup: Setup) -> Option<Box<dyn Guard>> {
        self.0.breaker(setup)
    }

    fn purse(&self, percent: u8) -> Option<Box<dyn Purse>> {
        self.0.purse(percent)
    }

    fn pass(&self, time: Duration) {
        self.0.pass(time);
    }

    fn warp(&self, time: Duration) {
        self.0.warp(time);
    }

    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64> {
        Some(allocation_counter::measure(work).bytes_current)
    }
}

#[test]
fn we_have_none_of_the_ten() {
    let report = run(&Measured::default());
    let sound = report.findings.iter().filter(|f| f.verdict == Verdict::Sound).count();
    assert_eq!((report.defects(), sound), (0, 10), "\n{report}");
}

/// Counts to three failures in a row and never admits again: most of what can be wrong.
#[derive(Default)]
struct Stuck;

#[derive(Default)]
struct Counter(Cell<u32>);

struct Counted<'a>(&'a Counter);

impl Call for Counted<'_> {
    fn finish(self: Box<Self>, ok: bool) {
        let failed = if ok { 0 } else { self.0.0.get() + 1 };
        self.0.0.set(failed);
    }

    fn cancel(self: Box<Self>) {}

    fn panic(self: Box<Self>) {}
}

impl Guard for Counter {
    fn start(&self) -> Option<Box<dyn Call + '_>> {
        (self.0.get() < 3).then(|| Box::new(Counted(self)) as Box<dyn Call>)
    }

    fn garbage_held(&self) -> Option<i64> {
        Some(1 << 20)
    }
}

struct Doubling(Cell<u32>);

impl Purse for Doubling {
    fn deposit(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn withdraw(&self) -> bool {
        let left = self.0.get().checked_sub(1);
        left.map(|left| self.0.set(left)).is_some()
    }
}

impl Subject for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }

    fn breaker(&self, _: Setup) -> Option<Box<dyn Guard>> {
        Some(Box::<Counter>::default())
    }

    fn purse(&self, _: u8) -> Option<Box<dyn Purse>> {
        Some(Box::new(Doubling(Cell::new(0))))
    }

    fn pass(&self, _: Duration) {}

    fn warp(&self, _: Duration) {}

    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64> {
        work();
        Some(100_000)
    }
}

#[test]
fn a_subject_that_has_them_is_told() {
    let report = run(&Stuck);
    let sound: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Defect)
        .map(|finding| finding.probe)
        .collect();
    assert_eq!(sound, ["P6"], "\n{report}");
}
