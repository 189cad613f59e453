//! A backlog is relayed: messages a second, processor time a message, and whether the rate is flat.

use super::Run;
use crate::Failure;
use crate::child::{Plan, Progress, Relaying, Told};
use crate::consume::{self, Seen};
use crate::load;
use crate::message::Maker;
use crate::process::Process;

const SLICES: u64 = 10;
/// How much larger a chunk is where each is a transaction.
const TRANSACTION_CHUNKS: usize = 6;

/// Rows that are relayed before those that count: a broker in production is not a minute old, and
/// its code not yet compiled.
const WARM: u64 = 300_000;

/// What relays a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The bare probe, next to which the others are to be seen.
    Probe,
    AtLeastOnce,
    ExactlyOnce,
}

impl Way {
    fn case(self) -> &'static str {
        match self {
            Self::Probe => "backlog-probe",
            Self::AtLeastOnce => "backlog-at-least-once",
            Self::ExactlyOnce => "backlog-exactly-once",
        }
    }

    fn subject(self) -> &'static str {
        if self == Self::Probe { "probe" } else { "amarra" }
    }
}

/// Relays a backlog in a process of its own and reads the topic back; a smaller one before it.
pub(super) async fn run(run: &Run<'_>, way: Way) -> Result<(), Failure> {
    let (case, rows) = (way.case(), run.rows());
    if !run.options.short {
        let warm = format!("{case}-warm");
        drop(move_all(run, way, &warm, WARM.min(rows)).await?);
    }
    let moved = move_all(run, way, case, rows).await?;
    figures(run, way, rows, &moved.told)?;
    let per_message = |micros: u64| micros as f64 / rows as f64;
    run.report.row_of("postgres", case, "cpu_us_per_msg", per_message(moved.servers.0));
    run.report.row_of("kafka", case, "cpu_us_per_msg", per_message(moved.servers.1));
    run.report.row_of(
        way.subject(),
        case,
        "lost",
        rows.saturating_sub(moved.seen.distinct()) as f64,
    );
    run.report.row_of(way.subject(), case, "resent", moved.seen.resent as f64);
    run.report.row_of(way.subject(), case, "reordered", moved.seen.reordered as f64);
    Ok(())
}

/// What moving a backlog came to.
struct Moved {
    told: Vec<Progress>,
    /// What PostgreSQL and Kafka used of the processors.
    servers: (u64, u64),
    seen: Seen,
}

/// Loads so many rows, moves them and reads them back.
async fn move_all(run: &Run<'_>, way: Way, case: &str, rows: u64) -> Result<Moved, Failure> {
    let name = case.replace('-', "_");
    let config = run.servers.database(&name, run.options.shards, rows).await?;
    let partitions = i32::from(run.options.shards);
    let topic = run.servers.topic(case, partitions).await?;
    run.report.say(&format!("{case}: loading {rows} rows"));
    load::load(&config, &Maker::new(&topic)?, rows).await?;
    run.report.say(&format!("{case}: relaying"));
    let mut plan = run.plan(&config.url);
    let relaying = Relaying { until: Some(rows), ..run.relaying(case) };
    match way {
        Way::Probe => plan.probing = Some(run.servers.bootstrap()),
        Way::AtLeastOnce => plan.relaying = Some(relaying),
        Way::ExactlyOnce => {
            // A transaction costs the broker the same whatever its size.
            let chunk = relaying.chunk * TRANSACTION_CHUNKS;
            let (exactly_once, lease_ms) = (true, 9_000);
            plan.relaying = Some(Relaying { exactly_once, chunk, lease_ms, ..relaying });
        }
    }
    let before = run.servers.cpu_micros();
    let told = relay(&plan)?;
    let after = run.servers.cpu_micros();
    let servers = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    let consumer = consume::consumer(&run.servers.bootstrap(), &topic, partitions)?;
    let seen = consume::read(&consumer, rows)?;
    run.servers.drop_database(&name)?;
    run.servers.drop_topic(&topic).await?;
    Ok(Moved { told, servers, seen })
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

fn figures(run: &Run<'_>, way: Way, rows: u64, told: &[Progress]) -> Result<(), Failure> {
    let (case, subject) = (way.case(), way.subject());
    let last = told.iter().find(|t| t.published >= rows).or(told.last());
    let (Some(first), Some(last)) = (told.first(), last) else {
        return Err("the relay said nothing".into());
    };
    if last.failures > 0 || last.published < rows {
        run.report.say(&format!("{case}: {last:?}"));
    }
    let report = run.report;
    let seconds = (last.at - first.at) as f64 / 1e6;
    report.row_of(subject, case, "msgs_per_s", last.published as f64 / seconds);
    report.row_of(
        subject,
        case,
        "cpu_us_per_msg",
        (last.cpu - first.cpu) as f64 / last.published as f64,
    );
    report.row_of(subject, case, "failures", last.failures as f64);
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
        report.row_of(subject, case, "last_slice_to_second", last / first);
    }
    Ok(())
}
