//! The same servers by a Docker engine and `deploy/compose.yaml`.

use std::process::{Command, Stdio};

use super::state::{Shape, State};
use crate::run::{capture, root};

/// The ports of `deploy/compose.yaml`.
const POSTGRES: &str = "postgres://app@127.0.0.1:55432/postgres";
const KAFKA: &str = "127.0.0.1:59092";

/// Starts the containers and waits until they are healthy.
pub(crate) fn up(shape: Shape) -> Result<State, String> {
    if shape.kafka_nodes != 1 {
        let advice = "leave out --docker for three";
        return Err(format!("deploy/compose.yaml has one node of Kafka; {advice}"));
    }
    if !answers(Command::new("docker").arg("info")) {
        return Err("no Docker engine answers (`docker info`); start one, or leave out --docker \
                    to run private servers without it"
            .to_owned());
    }
    let mut command = compose();
    command.args(["up", "--detach", "--wait"]).env("AMARRA_PG", shape.pg.to_string());
    succeed(command, "docker compose up")?;
    let servers = Vec::new();
    Ok(State { shape, postgres: POSTGRES.to_owned(), kafka: KAFKA.to_owned(), servers })
}

/// Removes the containers and their data.
pub(crate) fn down() -> Result<(), String> {
    let mut command = compose();
    command.args(["down", "--volumes"]);
    succeed(command, "docker compose down")
}

/// Tells whether both containers run.
pub(crate) fn runs() -> bool {
    let mut command = compose();
    command.args(["ps", "--services", "--status", "running"]);
    capture(command).is_ok_and(|(ok, services, _)| ok && services.lines().count() == 2)
}

fn compose() -> Command {
    let mut command = Command::new("docker");
    command.args(["compose", "-f", "deploy/compose.yaml"]).current_dir(root());
    command
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn succeed(command: Command, action: &str) -> Result<(), String> {
    let (ok, printed, errors) = capture(command)?;
    if ok { Ok(()) } else { Err(format!("{action} failed: {}{}", printed, errors.trim())) }
}
