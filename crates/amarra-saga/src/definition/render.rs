//! Pictures of a definition: Graphviz dot and Mermaid.

use std::fmt::Write;

use super::{Definition, Kind};

impl Definition {
    /// Draws the graph in the language of Graphviz.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = format!("digraph \"{} v{}\" {{\n", escape(self.name()), self.version());
        out.push_str("  rankdir=LR;\n  node [shape=box];\n");
        for step in self.steps() {
            let look = match step.kind {
                Kind::Compensatable => "style=rounded",
                Kind::Pivot => "shape=diamond",
                Kind::Retriable => "style=bold",
            };
            let name = escape(&step.name);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  \"{name}\" [{look}, tooltip=\"{}\"];", step.kind);
        }
        for step in self.steps() {
            for before in step.after.iter().filter_map(|at| self.step(*at)) {
                let (from, to) = (escape(&before.name), escape(&step.name));
                let _ = writeln!(out, "  \"{from}\" -> \"{to}\";");
            }
        }
        out.push_str("}\n");
        out
    }

    /// Draws the graph in the language of Mermaid.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (at, step) in self.steps().iter().enumerate() {
            let name = step.name.replace('"', "#quot;");
            let _ = match step.kind {
                Kind::Compensatable => writeln!(out, "  s{at}(\"{name}\")"),
                Kind::Pivot => writeln!(out, "  s{at}{{\"{name}\"}}"),
                Kind::Retriable => writeln!(out, "  s{at}[\"{name}\"]"),
            };
        }
        for (at, step) in self.steps().iter().enumerate() {
            for before in &step.after {
                let _ = writeln!(out, "  s{} --> s{at}", before.0);
            }
        }
        out
    }
}

fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}
