//! A backlog is relayed: messages a second, processor time a message, and whether the rate is flat.

use amarra_messaging::Topic;

use super::Run;
use crate::Failure;
use crate::child::{Plan, Progress, Relaying, Told};
use crate::consume;
use crate::load;
use crate::message::Maker;
use crate::process::Process;

const SLICES: u64 = 10;
/// How much larger a chunk is where each is a transaction.
const TRANSACTION_CHUNKS: usize = 6;

/// Loads a backlog, relays it in a process of its own and reads the topic back.
pub(super) async fn run(run: &Run<'_>, exactly_once: bool) -> Result<(), Failure> {
    let case = if exactly_once { "backlog-exactly-once" } else { "backlog-at-least-once" };
    let (name, rows) = (case.replace('-', "_"), run.rows());
    let config = run.servers.database(&name, run.options.shards, rows).await?;
    let partitions = i32::from(run.options.shards);
    let topic = run.servers.topic(case, partitions).await?;
    run.report.say(&format!("{case}: loading {rows} rows"));
    load::load(&config, &Maker::new(&topic)?, rows).await?;
    run.report.say(&format!("{case}: relaying"));
    let mut relaying = Relaying { exactly_once, until: Some(rows), ..run.relaying(case) };
    if exactly_once {
        // A transaction costs the broker the same whatever its size.
        (relaying.chunk, relaying.lease_ms) = (relaying.chunk * TRANSACTION_CHUNKS, 9_000);
    }
    let plan = Plan { relaying: Some(relaying), ..run.plan(&config.url) };
    let before = run.servers.cpu_micros();
    let told = relay(&plan)?;
    let after = run.servers.cpu_micros();
    figures(run, case, rows, &told)?;
    let per_message = |before: u64, after: u64| after.saturating_sub(before) as f64 / rows as f64;
    run.report.row_of("postgres", case, "cpu_us_per_msg", per_message(before.0, after.0));
    run.report.row_of("kafka", case, "cpu_us_per_msg", per_message(before.1, after.1));
    verify(run, case, &topic, rows)?;
    run.servers.drop_database(&name)?;
    run.servers.drop_topic(&topic).await
}

fn relay(plan: &Plan) -> Result<Vec<Progress>, Failure> {
    let mut relay = Process::start(plan)?;
    let mut all = Vec::new();
    while let Some(told) = relay.next()? {
        if let Told::Relay(progress) = told {
            all.push(progress);
        }
    }
    Ok(all)
}

fn figures(run: &Run<'_>, case: &str, rows: u64, told: &[Progress]) -> Result<(), Failure> {
    let last = told.iter().find(|t| t.published >= rows).or(told.last());
    let (Some(first), Some(last)) = (told.first(), last) else {
        return Err("the relay said nothing".into());
    };
    if last.failures > 0 || last.published < rows {
        run.report.say(&format!("{case}: {last:?}"));
    }
    let report = run.report;
    let seconds = (last.at - first.at) as f64 / 1e6;
    report.row(case, "msgs_per_s", last.published as f64 / seconds);
    report.row(case, "cpu_us_per_msg", (last.cpu - first.cpu) as f64 / last.published as f64);
    report.row(case, "failures", last.failures as f64);
    let mut rates = Vec::new();
    let mut begin = first;
    for slice in 1..=SLICES {
        let Some(end) = told.iter().find(|t| t.published >= rows * slice / SLICES) else { break };
        let (n, micros) = (end.published - begin.published, end.at - begin.at);
        if micros > 0 {
            rates.push(n as f64 * 1e6 / micros as f64);
        }
        begin = end;
    }
    let text: Vec<_> = rates.iter().map(|rate| format!("{:.0}", rate / 1000.0)).collect();
    report.say(&format!("{case}: thousands a second in ten slices: {}", text.join(" ")));
    if let (Some(first), Some(last)) = (rates.get(1), rates.last()) {
        report.row(case, "last_slice_to_second", last / first);
    }
    Ok(())
}

fn verify(run: &Run<'_>, case: &str, topic: &Topic, rows: u64) -> Result<(), Failure> {
    let partitions = i32::from(run.options.shards);
    let consumer = consume::consumer(&run.servers.bootstrap(), topic, partitions)?;
    let seen = consume::read(&consumer, rows)?;
    run.report.row(case, "lost", rows.saturating_sub(seen.distinct()) as f64);
    run.report.row(case, "resent", seen.resent as f64);
    run.report.row(case, "reordered", seen.reordered as f64);
    Ok(())
}
