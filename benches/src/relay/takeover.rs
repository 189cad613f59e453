//! A relay is killed under load: how long until its successor publishes, and what was lost.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::BaseConsumer;

use super::Run;
use crate::Failure;
use crate::child::{Plan, Progress, Relaying, Told, now};
use crate::consume::{self, Seen};
use crate::message::number;
use crate::process::Process;
use crate::writers::{STOCK, Writing};

const RATE: u64 = 1_000;
/// Between a successor's first message and its own end; another has to be waiting by then.
const BETWEEN: Duration = Duration::from_millis(2_700);
/// How long a successor may take before the case has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills the owner, over and over, while a thousand messages a second are written.
pub(super) async fn run(run: &Run<'_>, exactly_once: bool) -> Result<(), Failure> {
    let case = if exactly_once { "takeover-exactly-once" } else { "takeover" };
    let kills: u64 = if run.options.short { 1 } else { 5 };
    let name = case.replace('-', "_");
    let config = run.servers.database(&name, run.options.shards, 0).await?;
    run.servers.execute(&name, STOCK)?;
    let topic = run.servers.topic(case, i32::from(run.options.shards)).await?;
    let consumer =
        consume::consumer(&run.servers.bootstrap(), &topic, i32::from(run.options.shards))?;
    let seconds = 5 + kills * 7;
    let writing = Writing { topic: case.to_owned(), rate: RATE, connections: 4, seconds };
    let relay = |owner: String| {
        let relaying = Relaying { exactly_once, owner, every: true, ..run.relaying(case) };
        Owner::start(&Plan { bridge: true, relaying: Some(relaying), ..run.plan(&config.url) })
    };
    run.report.say(&format!("{case}: {kills} kills under {RATE} messages a second"));
    let mut owner = relay("one".to_owned())?;
    owner.until(|told| told.shards > 0)?;
    let plan = Plan { bridge: true, writing: Some(writing), ..run.plan(&config.url) };
    let mut writer = Process::start(&plan)?;
    owner.until(|told| told.published > 0)?;
    let mut waits = Vec::new();
    for kill in 0..kills {
        let mut next = relay(format!("standby {kill}"))?;
        next.until(|told| told.cpu > 0)?;
        std::thread::sleep(BETWEEN + Duration::from_millis(kill * 170));
        // Not zero where it took over from an owner that was late with its renewal.
        let before = next.last().map_or(0, |told| told.published);
        let killed = now();
        owner.process.kill9()?;
        let first = next.until(|told| told.at >= killed && told.published > before)?;
        waits.push(first.at.saturating_sub(killed) as f64 / 1000.0);
        owner = next;
    }
    let written = loop {
        match writer.next()?.ok_or("the writers ended")? {
            Told::Written { committed, .. } => break committed.len() as u64,
            Told::Relay(_) => {}
        }
    };
    let text: Vec<_> = waits.iter().map(|ms| format!("{ms:.0}")).collect();
    run.report.say(&format!("{case}: ms {}", text.join(" ")));
    run.report.row(case, "ms", waits.iter().copied().fold(0.0, f64::max));
    count(run, case, &consumer, written)?;
    drop(owner);
    run.servers.drop_database(&name)
}

/// Applies what comes as a consumer does that counts positions.
fn count(run: &Run<'_>, case: &str, consumer: &BaseConsumer, rows: u64) -> Result<(), Failure> {
    let (mut seen, mut applied, mut doubled) = (Seen::default(), BTreeSet::new(), 0_u64);
    let mut last = Instant::now();
    while (applied.len() as u64) < rows && last.elapsed() < Duration::from_secs(10) {
        let Some(message) = consumer.poll(Duration::from_millis(100)).transpose()? else {
            continue;
        };
        last = Instant::now();
        if seen.see(&message)? {
            let n = message.payload().and_then(number).ok_or("a message without a number")?;
            doubled += u64::from(!applied.insert(n));
        }
    }
    run.report.row(case, "lost", rows.saturating_sub(applied.len() as u64) as f64);
    run.report.row(case, "doubled", doubled as f64);
    run.report.row(case, "resent", seen.resent as f64);
    Ok(())
}

/// A relay process whose words are read as they come.
struct Owner {
    process: Process,
    told: Receiver<Progress>,
}

impl Owner {
    fn start(plan: &Plan) -> Result<Self, Failure> {
        let mut process = Process::start(plan)?;
        let mut words = process.take_words()?;
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok(Some(Told::Relay(progress))) = words.next() {
                if sender.send(progress).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, told })
    }

    fn last(&mut self) -> Option<Progress> {
        self.told.try_iter().last()
    }

    fn until(&mut self, what: impl Fn(&Progress) -> bool) -> Result<Progress, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let progress = self.told.recv_timeout(left).map_err(|e| format!("a relay: {e}"))?;
            if what(&progress) {
                return Ok(progress);
            }
        }
    }
}
