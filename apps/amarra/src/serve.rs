//! One service in this process, on real servers.

use crate::args::Serve;
use crate::name::Name;
use crate::refusal::Failure;

/// Runs the service until it is asked to stop.
#[expect(clippy::unused_async, reason = "written next")]
pub(crate) async fn run(service: Name, _args: &Serve) -> Result<(), Failure> {
    Err(Failure::refused(format!("{service} cannot run on its own yet")))
}
