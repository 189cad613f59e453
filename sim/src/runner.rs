//! Runs seeds, each in a process of its own, and gathers their verdicts.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::child::{Verdict, Violation};
use crate::report::{self, Totals};

/// Wall time after which a process is taken for stuck; 50 orders take a tenth of a second.
const WALL_MAX: Duration = Duration::from_secs(300);

/// Which seeds to run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The scenario's name, known to exist.
    pub(crate) scenario: String,
    /// Orders a seed.
    pub(crate) orders: u32,
    /// The first seed.
    pub(crate) first: u64,
    /// How many.
    pub(crate) seeds: u64,
    /// How many at once.
    pub(crate) jobs: usize,
    /// Whether to print JSON Lines.
    pub(crate) json: bool,
    /// Whether to stop at the first seed that fails.
    pub(crate) fail_fast: bool,
    /// Stop at the first seed that violates this invariant.
    pub(crate) until: Option<String>,
}

/// Runs every seed of the batch; exit code 1 when an invariant was violated.
///
/// # Errors
/// When a process could not be started or died without a verdict.
pub(crate) fn run(batch: &Batch) -> Result<ExitCode, String> {
    let bar = progress(batch.seeds);
    let started = Instant::now();
    let mut totals = Totals::default();
    let seeds = batch.first..batch.first.saturating_add(batch.seeds);
    each(batch, seeds, |seed, verdict| {
        if batch.json {
            println!("{}", verdict.to_line());
        }
        bar.inc(1);
        if !verdict.violations.is_empty() {
            bar.suspend(|| report::violation(batch, seed, &verdict));
        }
        totals.add(&verdict);
        let is_wanted = |v: &Violation| batch.until.as_ref().is_some_and(|u| *u == v.invariant);
        let found = verdict.violations.iter().any(is_wanted);
        let stop = batch.fail_fast && totals.violations > 0;
        Ok(!found && !stop)
    })?;
    bar.finish_and_clear();
    totals.finish(started.elapsed(), batch.jobs);
    totals.print(batch.json);
    Ok(ExitCode::from(u8::from(totals.violations > 0)))
}

/// Runs every seed twice and compares digests and lengths; exit code 1 when a pair differs.
///
/// # Errors
/// When a process could not be started or died without a verdict.
pub(crate) fn verify(batch: &Batch) -> Result<ExitCode, String> {
    let bar = progress(batch.seeds.saturating_mul(2));
    let mut first_runs: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    let (mut equal, mut differing) = (0_u64, Vec::new());
    let seeds = (batch.first..batch.first.saturating_add(batch.seeds)).flat_map(|s| [s, s]);
    each(batch, seeds, |seed, verdict| {
        bar.inc(1);
        let this = (verdict.digest.clone(), verdict.events);
        match first_runs.remove(&seed) {
            None => drop(first_runs.insert(seed, this)),
            Some(other) if other == this => equal += 1,
            Some(other) => {
                bar.suspend(|| {
                    eprintln!(
                        "seed {seed} differs: {} of {} events against {} of {} events",
                        other.0, other.1, this.0, this.1
                    );
                });
                differing.push(seed);
            }
        }
        Ok(true)
    })?;
    bar.finish_and_clear();
    if batch.json {
        for seed in &differing {
            println!("{}", serde_json::json!({"kind": "differs", "seed": seed}));
        }
        println!(
            "{}",
            serde_json::json!({"kind": "summary", "seeds": batch.seeds, "equal": equal})
        );
    } else {
        println!("{equal} of {} seeds gave the same trace in two processes", batch.seeds);
    }
    Ok(ExitCode::from(u8::from(!differing.is_empty())))
}

/// Runs one process a seed, `jobs` at once, and hands verdicts over in the seeds' order until it is
/// told that there are enough.
fn each(
    batch: &Batch,
    seeds: impl Iterator<Item = u64>,
    mut on_verdict: impl FnMut(u64, Verdict) -> Result<bool, String>,
) -> Result<(), String> {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicUsize::new(0);
    let enough = AtomicBool::new(false);
    let (send, verdicts) = mpsc::channel();
    let work = |send: mpsc::Sender<(usize, Result<Verdict, String>)>| {
        while !enough.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&seed) = seeds.get(index) else { return };
            let verdict = start(batch, seed).and_then(|child| finish(seed, child));
            if send.send((index, verdict)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs {
            let send = send.clone();
            scope.spawn(move || work(send));
        }
        drop(send);
        let result = in_order(&seeds, &verdicts, &mut on_verdict);
        enough.store(true, Ordering::Relaxed);
        result
    })
}

/// Hands verdicts over in the seeds' order, whatever order they come in.
fn in_order(
    seeds: &[u64],
    verdicts: &mpsc::Receiver<(usize, Result<Verdict, String>)>,
    on_verdict: &mut impl FnMut(u64, Verdict) -> Result<bool, String>,
) -> Result<(), String> {
    let mut early = BTreeMap::new();
    for (wanted, &seed) in seeds.iter().enumerate() {
        let verdict = loop {
            if let Some(verdict) = early.remove(&wanted) {
                break verdict;
            }
            let Ok((index, verdict)) = verdicts.recv() else { return Ok(()) };
            early.insert(index, verdict);
        };
        if !on_verdict(seed, verdict?)? {
            return Ok(());
        }
    }
    Ok(())
}

fn start(batch: &Batch, seed: u64) -> Result<Child, String> {
    let args = [
        "child".to_owned(),
        format!("--seed={seed}"),
        format!("--scenario={}", batch.scenario),
        format!("--orders={}", batch.orders),
    ];
    spawn(&args)
}

/// Starts this program again with `args`, its output captured.
///
/// # Errors
/// When the process could not be started.
pub(crate) fn spawn(args: &[String]) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start a simulation process: {e}"))
}

/// Waits for a process and reads its verdict; one that died becomes a verdict that says so.
///
/// # Errors
/// When its output could not be read.
pub(crate) fn finish(seed: u64, mut child: Child) -> Result<Verdict, String> {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let error = |e: std::io::Error| format!("seed {seed}: cannot wait for its process: {e}");
    let started = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().map_err(error)? {
            break status.to_string();
        }
        if started.elapsed() > WALL_MAX {
            child.kill().map_err(error)?;
            child.wait().map_err(error)?;
            break format!("no verdict within {} s of wall time", WALL_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let text = stdout.join().unwrap_or_default();
    let verdict = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    Ok(verdict.unwrap_or_else(|| {
        let stderr = stderr.join().unwrap_or_default();
        Verdict::died(seed, &format!("{ended}; {}", stderr.trim()))
    }))
}

/// Reads a pipe to its end beside the wait, so that a full pipe never blocks its writer.
fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
