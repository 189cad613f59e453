//! Interleaved rounds: each round runs every subject of a case once, so that whatever the machine
//! does meanwhile happens to all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How often a subject is called in one round: short enough to be left alone on a busy machine.
const CALLS: u32 = 4_000;

/// How often a round that was interrupted is tried again.
const TRIES: usize = 60;

/// Something that can be called a number of times, from several threads at once.
pub(crate) type Run = Box<dyn Fn(u32) + Send + Sync>;

/// One subject of a case; the first of a case is the bare call.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

impl Subject {
    pub(crate) fn new(name: &'static str, run: impl Fn(u32) + Send + Sync + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// One question, and who answers it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) threads: usize,
    pub(crate) subjects: Vec<Subject>,
}

/// Where results go.
pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn line(&self, line: &serde_json::Value, text: &str) {
        if self.json {
            println!("{line}");
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}

/// What a subject adds to the bare call, in nanoseconds.
pub(crate) type Added = (&'static str, f64);

/// Measures a case, prints a line a subject, and returns what each adds.
pub(crate) fn run(report: &Report, case: Case, rounds: usize) -> Vec<Added> {
    let mut times = vec![Vec::with_capacity(rounds); case.subjects.len()];
    for subject in &case.subjects {
        round(case.threads, subject);
    }
    for _ in 0..rounds {
        for (subject, times) in case.subjects.iter().zip(&mut times) {
            times.push(round(case.threads, subject));
        }
    }
    let bare = median(&mut times[0]);
    let mut all = Vec::new();
    for (subject, times) in case.subjects.iter().zip(&mut times) {
        let spent = median(times);
        let added = spent - bare;
        if added.is_nan() {
            report.line(
                &serde_json::json!({"kind": "missing", "subject": subject.name, "case": case.name}),
                &format!("{:24} {:26} no round counted", case.name, subject.name),
            );
            continue;
        }
        all.push((subject.name, added));
        let value = (added * 100.0).round() / 100.0;
        let end = |time: Option<&f64>| time.map_or(f64::NAN, |time| time - bare);
        let (lowest, highest, rounds) = (end(times.first()), end(times.last()), times.len());
        let text = format!("{:24} {:26} {added:>9.2} ns added", case.name, subject.name);
        report.line(
            &serde_json::json!({
                "kind": "row", "subject": subject.name, "case": case.name, "metric": "added_ns",
                "value": value,
            }),
            &format!("{text}, {lowest:.2} to {highest:.2} ({spent:.2} in all, {rounds} rounds)"),
        );
    }
    all
}

/// Tells whether our figure is at most `thousandths` of the best peer's: a ratio within one run
/// says the same on a busy machine as on an idle one.
pub(crate) fn check(report: &Report, case: &str, all: &[Added], thousandths: u32) -> bool {
    let ours = all.iter().find(|(name, _)| *name == "amarra");
    let peers = all.iter().filter(|(name, _)| *name != "bare" && !name.starts_with("amarra"));
    let best = peers.min_by(|a, b| a.1.total_cmp(&b.1));
    let (Some((_, ours)), Some((peer, best))) = (ours, best) else { return true };
    let ok = *ours <= best * f64::from(thousandths) / 1000.0;
    let word = if ok { "ok" } else { "FAILED" };
    report.line(
        &serde_json::json!({"kind": "check", "case": case, "peer": peer, "ok": ok}),
        &format!("{case:24} ours {ours:.2}, {peer} {best:.2}, bound {thousandths} ‰: {word}"),
    );
    ok
}

/// Leaves out rounds that did not count, and sorts the others.
fn median(times: &mut Vec<f64>) -> f64 {
    times.retain(|time| !time.is_nan());
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a subject once on each thread and returns nanoseconds per call; a round in which a thread
/// was interrupted, or ran alone for a while, does not count. When none counts the round is not a
/// number.
fn round(threads: usize, subject: &Subject) -> f64 {
    for _ in 0..TRIES {
        let (nanos, counts) =
            if threads == 1 { alone(subject) } else { together(threads, subject) };
        if counts {
            return nanos;
        }
    }
    f64::NAN
}

fn alone(subject: &Subject) -> (f64, bool) {
    let ran = timed(subject, CALLS, || {});
    (ran.nanos(CALLS), ran.quiet)
}

fn together(threads: usize, subject: &Subject) -> (f64, bool) {
    let waiting = AtomicUsize::new(threads);
    let start = || {
        waiting.fetch_sub(1, Ordering::AcqRel);
        while waiting.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
    };
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let one = || timed(subject, CALLS, start);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let (Some(last), Some(first)) =
        (ran.iter().map(|r| r.started).max(), ran.iter().map(|r| r.ended).min())
    else {
        return (f64::MAX, false);
    };
    let shared = first.saturating_duration_since(last).as_nanos() as f64;
    let overlap = |r: &Ran| shared >= 0.8 * (r.ended - r.started).as_nanos() as f64;
    let counts = ran.len() == threads && ran.iter().all(|r| r.quiet && overlap(r));
    let sum: f64 = ran.iter().map(|r| r.nanos(CALLS)).sum();
    (sum / threads as f64, counts)
}

/// One thread's part of a round.
#[derive(Debug, Clone, Copy)]
struct Ran {
    started: Instant,
    ended: Instant,
    quiet: bool,
}

impl Ran {
    fn nanos(&self, calls: u32) -> f64 {
        (self.ended - self.started).as_nanos() as f64 / f64::from(calls)
    }
}

fn timed(subject: &Subject, calls: u32, ready: impl FnOnce()) -> Ran {
    let before = interruptions();
    ready();
    let started = Instant::now();
    (subject.run)(calls);
    let ended = Instant::now();
    Ran { started, ended, quiet: interruptions() == before }
}

/// How often this thread was taken off its processor against its will.
fn interruptions() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}
