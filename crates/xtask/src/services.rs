//! Long-lived PostgreSQL and Kafka of the workspace's own: `cargo xtask services up|down|status`.

mod docker;
mod state;

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use testbed::{Home, Kafka, KafkaOptions, PgAuth, PgOptions, PgVersion, Postgres, Process};

use self::state::{Server, Shape, State};
use crate::output::Output;

/// What to do with the servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Installs what is missing, starts what does not run, prints how to connect.
    Up {
        /// Which version of PostgreSQL.
        #[arg(long, value_enum, default_value = "18")]
        pg: Pg,
        /// How many nodes of Kafka.
        #[arg(long, value_enum, default_value = "1")]
        kafka_nodes: Nodes,
        /// Uses the Docker engine and `deploy/compose.yaml`.
        #[arg(long)]
        docker: bool,
    },
    /// Stops the servers that `up` started and removes their data.
    Down,
    /// Tells what runs.
    Status,
}

/// A version of PostgreSQL.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Pg {
    /// From Maven Central.
    #[value(name = "18")]
    V18,
    /// From Debian.
    #[value(name = "15")]
    V15,
}

/// How many nodes a Kafka cluster has.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Nodes {
    /// One.
    #[value(name = "1")]
    One,
    /// Three, to kill one of.
    #[value(name = "3")]
    Three,
}

/// Does it; `false` when `status` finds that something does not run.
pub(crate) fn run(out: &Output, verb: &Verb) -> Result<bool, String> {
    let home = Home::find().map_err(text)?;
    // Two at a time would each start their own.
    let _lock = home.lock("services").map_err(text)?;
    match verb {
        Verb::Up { pg, kafka_nodes, docker } => {
            let pg = match pg {
                Pg::V18 => PgVersion::V18,
                Pg::V15 => PgVersion::V15,
            };
            let nodes = match kafka_nodes {
                Nodes::One => 1,
                Nodes::Three => 3,
            };
            up(out, &home, pg, Shape { pg: pg.number(), kafka_nodes: nodes, docker: *docker })
        }
        Verb::Down => down(out, &home),
        Verb::Status => status(out, &home),
    }
}

fn up(out: &Output, home: &Home, pg: PgVersion, shape: Shape) -> Result<bool, String> {
    let found = State::read(home)?;
    if let Some(state) = found {
        let runs = if state.shape.docker { docker::runs() } else { state.all_alive() };
        if runs && state.shape == shape {
            out.say("# already up");
            return report(out, &state);
        }
        if runs || state.servers.iter().any(Server::is_alive) {
            let advice = "run `cargo xtask services down` first";
            let what = &state.shape;
            return Err(if what == &shape {
                format!("a part of the servers has died; {advice}")
            } else {
                format!("other servers are up ({what}), not {shape}; {advice}")
            });
        }
        out.say("# the servers of an earlier `up` are gone; starting anew");
        stop(home, &state)?;
    }
    let state = if shape.docker { docker::up(shape)? } else { start(home, pg, shape)? };
    if state.shape.docker {
        state.write(home)?;
    }
    report(out, &state)
}

/// Starts private servers; they stop again unless all of them are written down.
fn start(home: &Home, version: PgVersion, shape: Shape) -> Result<State, String> {
    let options = PgOptions { fsync: true, auth: PgAuth::Scram, ..PgOptions::default() };
    let pg = Postgres::start(version, options).map_err(text)?;
    let options = KafkaOptions { nodes: shape.kafka_nodes, ..KafkaOptions::default() };
    let kafka = Kafka::start(options).map_err(text)?;
    let name = format!("PostgreSQL {}", version.number());
    let mut servers = vec![Server::new(&name, pg.pid(), pg.addr(), pg.folder(), "INT")?];
    for (node, (addr, folder)) in (1_u8..).zip(kafka.addrs().into_iter().zip(kafka.folders())) {
        let name = format!("Kafka node {node}");
        servers.push(Server::new(&name, kafka.pid(node), addr, folder, "TERM")?);
    }
    let state = State { shape, postgres: pg.url("postgres"), kafka: kafka.bootstrap(), servers };
    state.write(home)?;
    pg.detach().map_err(text)?;
    kafka.detach().map_err(text)?;
    Ok(state)
}

fn down(out: &Output, home: &Home) -> Result<bool, String> {
    let Some(state) = State::read(home)? else {
        out.result(&json!({"kind": "services", "up": false}), "# nothing was up");
        return Ok(true);
    };
    stop(home, &state)?;
    out.result(&json!({"kind": "services", "up": false}), "# down; the data is gone");
    Ok(true)
}

fn stop(home: &Home, state: &State) -> Result<(), String> {
    if state.shape.docker {
        docker::down()?;
    }
    // Asked one after the other, then waited for, so that three brokers take the time of one.
    for server in &state.servers {
        server.process.signal(&server.stop).map_err(text)?;
    }
    for server in &state.servers {
        server.finish(home)?;
    }
    State::forget(home)
}

fn status(out: &Output, home: &Home) -> Result<bool, String> {
    let Some(state) = State::read(home)? else {
        let line = json!({"kind": "services", "up": false});
        out.result(&line, "# nothing is up; start it with `cargo xtask services up`");
        return Ok(false);
    };
    report(out, &state)
}

/// Prints what runs and how to connect; in a shell, `eval "$(cargo xtask services up)"` sets it.
fn report(out: &Output, state: &State) -> Result<bool, String> {
    let up = if state.shape.docker { docker::runs() } else { state.all_alive() };
    for server in &state.servers {
        let Process { pid, .. } = server.process;
        let (name, addr, alive) = (&server.name, &server.addr, server.is_alive());
        let word = if alive { "answers" } else { "DOES NOT ANSWER" };
        out.result(
            &json!({"kind": "server", "name": name, "addr": addr, "pid": pid, "ok": alive}),
            &format!("# {name} on {addr}, process {pid}: {word}"),
        );
    }
    let (postgres, kafka) = (&state.postgres, &state.kafka);
    out.result(
        &json!({"kind": "services", "up": up, "docker": state.shape.docker,
            "env": {"AMARRA_POSTGRES_URL": postgres, "AMARRA_KAFKA_BOOTSTRAP": kafka}}),
        &format!(
            "export AMARRA_POSTGRES_URL='{postgres}'\nexport AMARRA_KAFKA_BOOTSTRAP='{kafka}'"
        ),
    );
    Ok(up)
}

fn text(error: testbed::Error) -> String {
    error.to_string()
}
