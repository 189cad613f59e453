//! A thousand commits a second: how long from the commit to the consumer.

use std::sync::mpsc;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::consumer::BaseConsumer;
use sqlx::{Connection as _, PgConnection};

use super::Run;
use crate::Failure;
use crate::child::{Plan, Relaying, Told, now};
use crate::consume;
use crate::message::number;
use crate::process::Process;
use crate::writers::{Committed, STOCK, Writing};

/// Seconds at the start that do not count.
const WARM: u64 = 2;
const CONNECTIONS: u64 = 8;

/// What is different about a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) case: &'static str,
    /// A transaction that has written stays open all the time.
    pub(super) open_tx: bool,
    /// The writers are another process than the relay.
    pub(super) bridge: bool,
    pub(super) seconds: u64,
}

/// Writes at a rate, relays in process of the writers or beside it, and receives here.
pub(super) async fn run(run: &Run<'_>, shape: Shape) -> Result<(), Failure> {
    let (case, name) = (shape.case, shape.case.replace('-', "_"));
    let rate = if run.options.short { 100 } else { 1_000 };
    let seconds = WARM + if run.options.short { 1 } else { shape.seconds };
    let config = run.servers.database(&name, run.options.shards, 0).await?;
    run.servers.execute(&name, STOCK)?;
    let topic = run.servers.topic(case, i32::from(run.options.shards)).await?;
    let consumer =
        consume::consumer(&run.servers.bootstrap(), &topic, i32::from(run.options.shards))?;
    let mut open = PgConnection::connect(&config.url).await?;
    if shape.open_tx {
        sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut open).await?;
        sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut open).await?;
    }
    run.report.say(&format!("{case}: {rate} commits a second for {seconds} s"));
    let writing = Writing { topic: case.to_owned(), rate, connections: CONNECTIONS, seconds };
    let relay = run.relaying(case);
    let mut processes = Vec::new();
    if shape.bridge {
        let plan = Plan { bridge: true, relaying: Some(relay), ..run.plan(&config.url) };
        processes.push(Process::start(&plan)?);
        let plan = Plan { bridge: true, writing: Some(writing), ..run.plan(&config.url) };
        processes.push(Process::start(&plan)?);
    } else {
        let relaying = Some(Relaying { until: None, ..relay });
        let plan = Plan { relaying, writing: Some(writing), ..run.plan(&config.url) };
        processes.push(Process::start(&plan)?);
    }
    let (committed, cpu) = measure(run, shape, &consumer, processes)?;
    if !shape.bridge {
        run.report.row(case, "cores", cpu as f64 / 1e6 / seconds as f64);
    }
    drop((open, committed));
    run.servers.drop_database(&name)
}

/// Receives until every message came.
fn measure(
    run: &Run<'_>,
    shape: Shape,
    consumer: &BaseConsumer,
    mut processes: Vec<Process>,
) -> Result<(Vec<Committed>, u64), Failure> {
    let (sender, receiver) = mpsc::channel();
    let mut writer = processes.pop().ok_or("no process writes")?;
    let reader = std::thread::spawn(move || {
        while let Ok(Some(told)) = writer.next() {
            if let Told::Written { committed, cpu } = told {
                let _ = sender.send((committed, cpu));
                // It relays the last messages meanwhile.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    });
    let mut received = Vec::new();
    let mut written = None;
    let mut patience = 100;
    while patience > 0
        && written.as_ref().is_none_or(|(c, _): &(Vec<_>, _)| c.len() > received.len())
    {
        written = written.or_else(|| receiver.try_recv().ok());
        match consumer.poll(Duration::from_millis(50)).transpose()? {
            Some(message) => {
                let at = now();
                if let Some(n) = message.payload().and_then(number) {
                    received.push((n, at));
                }
            }
            None if written.is_some() => patience -= 1,
            None => {}
        }
    }
    let (committed, cpu) = written.ok_or("the writers failed")?;
    drop(processes);
    report(run, shape, &committed, received)?;
    // The reader ends with its process, which was told to end by the end of this function's.
    drop(reader);
    Ok((committed, cpu))
}

fn report(
    run: &Run<'_>,
    shape: Shape,
    committed: &[Committed],
    mut received: Vec<(u64, u64)>,
) -> Result<(), Failure> {
    received.sort_unstable();
    received.dedup_by_key(|(n, _)| *n);
    let begin = committed.iter().map(|c| c.asked).min().ok_or("nothing was written")?;
    let counted = committed.iter().filter(|c| c.asked >= begin + WARM * 1_000_000);
    let (mut answered, mut asked) = (Vec::new(), Vec::new());
    for c in counted {
        let Ok(i) = received.binary_search_by_key(&c.n, |(n, _)| *n) else { continue };
        let at = received.get(i).map_or(0, |(_, at)| *at);
        answered.push(at.saturating_sub(c.answered));
        asked.push(at.saturating_sub(c.asked));
    }
    let case = shape.case;
    for (values, suffix) in [(&mut answered, ""), (&mut asked, "_from_commit_sent")] {
        values.sort_unstable();
        for (percent, name) in [(50, "p50_ms"), (99, "p99_ms")] {
            let at = values.len() * percent / 100;
            let micros = values.get(at).or(values.last()).copied().unwrap_or(0);
            run.report.row(case, &format!("{name}{suffix}"), micros as f64 / 1000.0);
        }
    }
    run.report.row(case, "lost", (committed.len() - received.len().min(committed.len())) as f64);
    Ok(())
}
