//! What people and programs read of us: results on standard output, complaints on standard error.

use std::io::Write;

/// Prints a line for whoever asked.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed the pipe wants to know no more.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints a line about something that is wrong.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "amarra: {line}");
}
