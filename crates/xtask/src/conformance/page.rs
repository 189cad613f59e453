//! `docs/conformance.md`: what was asked of which backend, and what came of it.

use std::fmt::Write as _;

use super::backends::EXCLUSIONS;
use super::table::{Outcome, Table};

const HEAD: &str = r#"# Conformance

Every behaviour that the laws of the ports demand, and what each backend made of it. Written by
`cargo xtask conformance --write`, which runs the suites of
[amarra-conformance](../crates/amarra-conformance) on every adapter: against private servers where
an adapter is for a server. `cargo xtask conformance` runs and prints the same and changes nothing;
with `--backend NAME` it runs one backend, with `--json` it prints a line a behaviour and backend:

```json
{"kind":"law","port":"Inbox","law":"inb_1_...","id":"INB-1","backend":"memory","ok":true}
```

A behaviour that a backend must show and did not run counts as failed.

| backend | is |
|---|---|
| memory | `amarra-memory`, the model of both that the simulator runs |
| sqlite | `amarra-sqlite`: the store, and the durable bus |
| postgres-18, postgres-15 | `amarra-postgres` on PostgreSQL 18 and 15 |
| postgres-wal-18, postgres-wal-15 | `amarra-postgres-wal` on the same: `OutboxLog` only |
| kafka | `amarra-kafka` on Apache Kafka: transactional publishing, the classic protocol of groups |
| kafka-idempotent | its other mode of publishing |
| kafka-kip848 | the protocol in which the broker assigns the partitions of a group (KIP-848) |
| tokio | `amarra-tokio` on this machine's clock and randomness |
| wire | the codec, which no adapter has a part in |

## By port
"#;

/// Writes the page.
pub(super) fn render(table: &Table<'_>) -> String {
    let mut page = HEAD.to_owned();
    let names: Vec<&str> = table.backends.iter().map(|b| b.name).collect();
    let _ = writeln!(page, "\n| port | behaviours | {} |", names.join(" | "));
    let _ = writeln!(page, "|---|---|{}", "---|".repeat(names.len()));
    for port in table.ports() {
        let cells: Vec<String> = (0..names.len()).map(|at| table.cell(port, at)).collect();
        let _ =
            writeln!(page, "| {port} | {} | {} |", table.behaviours(&[port]), cells.join(" | "));
    }
    exclusions(&mut page);
    for port in table.ports() {
        behaviours(&mut page, port, table);
    }
    page
}

fn exclusions(page: &mut String) {
    page.push_str("\n## Left out\n\n");
    if EXCLUSIONS.is_empty() {
        page.push_str("Nothing: every backend has every behaviour of its ports.\n");
        return;
    }
    page.push_str("| backend | behaviour | why |\n|---|---|---|\n");
    for exclusion in EXCLUSIONS {
        let (backend, name, why) = (exclusion.backend, exclusion.name, exclusion.why);
        let _ = writeln!(page, "| {backend} | `{name}` | {why} |");
    }
}

fn behaviours(page: &mut String, port: &str, table: &Table<'_>) {
    let asked = |at: &usize| table.count(&[port], *at).1 > 0;
    let columns: Vec<usize> = (0..table.backends.len()).filter(asked).collect();
    let heads = columns.iter().filter_map(|&at| table.backends.get(at)).map(|b| b.name);
    let heads = heads.collect::<Vec<_>>().join(" | ");
    let _ = writeln!(page, "\n## {port}\n\n| law | behaviour | {heads} |");
    let _ = writeln!(page, "|---|---|{}", "---|".repeat(columns.len()));
    for (law, outcomes) in table.rows.iter().filter(|(law, _)| law.port == port) {
        let mark = |at: &usize| match outcomes.get(*at) {
            Some(Outcome::Holds) => "holds",
            Some(Outcome::Excluded(_)) => "left out",
            _ => "**fails**",
        };
        let marks: Vec<&str> = columns.iter().map(mark).collect();
        let _ = writeln!(page, "| {} | `{}` | {} |", law.law, law.name, marks.join(" | "));
    }
}
