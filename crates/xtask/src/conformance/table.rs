//! The results of behaviours by backend, and how they are printed.

use std::collections::BTreeMap;

use serde_json::json;

use super::backends::{BROKER, Backend, STORE, excluded};
use super::{Law, Results};
use crate::output::Output;

/// What came of one behaviour on one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// Its test did not run.
    Missing,
    /// The backend cannot have it.
    Excluded(&'static str),
    /// It is said to be impossible there, and holds.
    Stale,
    /// The backend does not have the port.
    NotAsked,
}

impl Outcome {
    /// Tells whether nothing is wrong with it.
    pub(super) fn is_well(self) -> bool {
        matches!(self, Self::Holds | Self::Excluded(_) | Self::NotAsked)
    }
}

/// Every behaviour on every backend that ran.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) backends: &'a [&'static Backend],
    /// One row a behaviour, one outcome a backend.
    pub(super) rows: Vec<(&'a Law, Vec<Outcome>)>,
}

impl<'a> Table<'a> {
    /// Looks up what came of the laws.
    pub(super) fn new(
        laws: &'a [Law],
        backends: &'a [&'static Backend],
        results: &Results,
    ) -> Self {
        let outcome = |law: &Law, backend: &Backend| {
            let Some(module) = backend.module(&law.port) else { return Outcome::NotAsked };
            let passed = results.of(backend.package, &format!("{module}::{}", law.name));
            match (passed, excluded(backend.name, &law.name)) {
                (Some(true), None) => Outcome::Holds,
                (Some(false), None) => Outcome::Fails,
                (None, None) => Outcome::Missing,
                (Some(true), Some(_)) => Outcome::Stale,
                (_, Some(why)) => Outcome::Excluded(why),
            }
        };
        let row = |law: &'a Law| (law, backends.iter().map(|b| outcome(law, b)).collect());
        Self { backends, rows: laws.iter().map(row).collect() }
    }

    /// Returns the ports in the order of the catalogue.
    pub(super) fn ports(&self) -> Vec<&'a str> {
        let mut ports: Vec<&str> = Vec::new();
        for (law, _) in &self.rows {
            if !ports.contains(&law.port.as_str()) {
                ports.push(&law.port);
            }
        }
        ports
    }

    /// Returns how many behaviours of `ports` hold on backend `at`, and how many were asked of it.
    pub(super) fn count(&self, ports: &[&str], at: usize) -> (usize, usize) {
        let mut counted = (0, 0);
        for (law, outcomes) in &self.rows {
            let outcome = outcomes.get(at).copied().unwrap_or(Outcome::NotAsked);
            if ports.contains(&law.port.as_str()) && outcome != Outcome::NotAsked {
                counted.0 += usize::from(outcome == Outcome::Holds);
                counted.1 += 1;
            }
        }
        counted
    }

    /// Returns how many behaviours there are of `ports`.
    pub(super) fn behaviours(&self, ports: &[&str]) -> usize {
        self.rows.iter().filter(|(law, _)| ports.contains(&law.port.as_str())).count()
    }

    /// Returns a cell: how many hold, of how many when not all do.
    pub(super) fn cell(&self, port: &str, at: usize) -> String {
        match self.count(&[port], at) {
            (_, 0) => "–".to_owned(),
            (held, asked) if held == asked => held.to_string(),
            (held, asked) => format!("{held}/{asked}"),
        }
    }

    /// Prints everything; false when something is not well.
    pub(super) fn print(&self, out: &Output) -> bool {
        self.lines(out);
        self.grid(out);
        let bad = self.exceptions(out);
        for (side, ports) in [("store side", STORE), ("broker side", BROKER)] {
            self.side(out, side, ports);
        }
        let results = self.rows.iter().flat_map(|(_, outcomes)| outcomes);
        let held = results.filter(|o| **o == Outcome::Holds).count();
        out.result(
            &json!({"kind": "summary", "behaviours": self.rows.len(), "held": held, "bad": bad,
                "ok": bad == 0}),
            &format!("{} behaviours, {held} results that hold, {bad} that do not", self.rows.len()),
        );
        bad == 0
    }

    /// One line a behaviour and backend, for programs.
    fn lines(&self, out: &Output) {
        if !out.is_json() {
            return;
        }
        for (law, outcomes) in &self.rows {
            for (backend, outcome) in self.backends.iter().zip(outcomes) {
                let (port, name, id, backend) = (&law.port, &law.name, &law.law, backend.name);
                let line = match outcome {
                    Outcome::NotAsked => continue,
                    Outcome::Excluded(why) => json!({"kind": "excluded", "port": port,
                        "law": name, "id": id, "backend": backend, "why": why}),
                    outcome => json!({"kind": "law", "port": port, "law": name, "id": id,
                        "backend": backend, "ok": outcome.is_well()}),
                };
                out.result(&line, "");
            }
        }
    }

    /// Ports by backends, for people.
    fn grid(&self, out: &Output) {
        if out.is_json() {
            return;
        }
        let names: Vec<&str> = self.backends.iter().map(|b| b.name).collect();
        let heads: String = names.iter().map(|name| format!("  {name}")).collect();
        out.say(&format!("{:<12} behaviours{heads}", "port"));
        for port in self.ports() {
            let width = |name: &str| name.chars().count();
            let cells = names.iter().enumerate();
            let cells: String =
                cells.map(|(at, n)| format!("  {:>1$}", self.cell(port, at), width(n))).collect();
            out.say(&format!("{port:<12} {:>10}{cells}", self.behaviours(&[port])));
        }
    }

    /// Names what does not hold, and what is excluded; returns how much is wrong.
    fn exceptions(&self, out: &Output) -> usize {
        let mut bad = 0;
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (law, outcomes) in &self.rows {
            for (backend, outcome) in self.backends.iter().zip(outcomes) {
                bad += usize::from(!outcome.is_well());
                let what = match outcome {
                    Outcome::Holds | Outcome::NotAsked => continue,
                    Outcome::Fails => "FAILED",
                    Outcome::Missing => "NOT RUN",
                    Outcome::Stale => "HOLDS, and is excluded",
                    Outcome::Excluded(why) => {
                        let place = format!("{} on {}", law.name, backend.name);
                        reasons.entry(why).or_default().push(place);
                        continue;
                    }
                };
                out.say(&format!("{what}: {} {} on {}", law.port, law.name, backend.name));
            }
        }
        for (why, places) in reasons {
            out.say(&format!("excluded, since {why}: {}", places.join(", ")));
        }
        bad
    }

    fn side(&self, out: &Output, side: &str, ports: &[&str]) {
        let behaviours = self.behaviours(ports);
        let mut parts = Vec::new();
        for (at, backend) in self.backends.iter().enumerate() {
            let (held, asked) = self.count(ports, at);
            if asked > 0 {
                parts.push((backend.name, held));
            }
        }
        let on = parts.iter().map(|(name, held)| format!("{held} on {name}"));
        let on = on.collect::<Vec<_>>().join(", ");
        let held: BTreeMap<_, _> = parts.into_iter().collect();
        out.result(
            &json!({"kind": "side", "side": side, "behaviours": behaviours, "held": held}),
            &format!("{side}: {behaviours} behaviours; held: {on}"),
        );
    }
}
