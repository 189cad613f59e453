//! A private PostgreSQL server.

mod client;
mod options;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use self::client::Rows;
pub use self::options::{PgAuth, PgOptions, PgVersion};

use crate::error::Error;
use crate::guardian::{Duty, Guardian};
use crate::home::Home;
use crate::install;
use crate::patience::until;
use crate::port::Port;
use crate::proxy::Proxy;

/// The superuser of every server, who needs no password on loopback.
const SUPERUSER: &str = "app";
/// The database that always exists.
const MAINTENANCE: &str = "postgres";
/// Other ports that are tried when somebody took the picked one in between.
const PORT_TRIES: usize = 5;
/// How long a server may take to end once told to; a crash takes less.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A PostgreSQL server of our own, gone with its data when this is dropped or this process dies.
///
/// # Example
/// ```no_run
/// use testbed::{PgOptions, PgVersion, Postgres};
///
/// let pg = Postgres::start(PgVersion::V18, PgOptions::default())?;
/// pg.create_database("orders")?;
/// pg.execute("orders", "create table t (id bigint primary key)")?;
/// pg.crash()?;
/// assert!(pg.url("orders").starts_with("postgres://app@127.0.0.1:"));
/// # Ok::<(), testbed::Error>(())
/// ```
#[derive(Debug)]
pub struct Postgres {
    guardian: Guardian,
    version: PgVersion,
    options: PgOptions,
    port: Port,
    folder: PathBuf,
}

impl Postgres {
    /// Installs the version when it is missing, and starts a server of it.
    ///
    /// # Errors
    /// When it cannot be installed, or does not answer within `options.patience`.
    pub fn start(version: PgVersion, options: PgOptions) -> Result<Self, Error> {
        options.validate()?;
        let home = Home::find()?;
        let installed = install::postgres(&home, version)?;
        let mut tries = 0_usize;
        loop {
            let port = Port::pick(&home)?;
            let pg = Self::prepare(&home, &installed, version, &options, port)?;
            tries = tries.saturating_add(1);
            match pg.start_again() {
                Ok(()) => return Ok(pg),
                Err(Error::NotReady { log, .. })
                    if tries < PORT_TRIES && log.contains("Address already in use") => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn prepare(
        home: &Home,
        installed: &install::PgInstalled,
        version: PgVersion,
        options: &PgOptions,
        port: Port,
    ) -> Result<Self, Error> {
        let folder = home.run_folder(&format!("postgres-{}", version.number()))?;
        let data = folder.join("data");
        let server = installed.bin.join("postgres").to_string_lossy().into_owned();
        let mut command = home.runner_words();
        command.extend(["env".into(), format!("HOME={}", folder.display()), server]);
        command.extend(["-D".into(), data.to_string_lossy().into_owned()]);
        let duty = Duty {
            name: format!("PostgreSQL {} on port {}", version.number(), port.number()),
            stop: "QUIT",
            log: folder.join("server.log"),
            folder: folder.clone(),
            command,
        };
        // From here on the folder is removed whatever happens.
        let guardian = Guardian::new(duty)?;
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(&installed.template).arg(&data);
        install::run("copying a data folder", &mut copy)?;
        write(home, &data.join("testbed.conf"), &options.settings_text(port.number()))?;
        append(&data.join("postgresql.conf"), "include 'testbed.conf'\n")?;
        write(home, &data.join("pg_hba.conf"), &options.hba(SUPERUSER))?;
        Ok(Self { guardian, version, options: options.clone(), port, folder })
    }

    /// The URL of a database, as the superuser `app`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_at(self.addr(), database)
    }

    /// The URL of a database through a proxy that was started for [`addr`](Self::addr).
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy, database: &str) -> String {
        self.url_at(proxy.addr(), database)
    }

    /// The URL of a database, as another role; role and password must need no escaping.
    #[must_use]
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgres://{role}:{password}@{}/{database}", self.addr())
    }

    fn url_at(&self, addr: SocketAddr, database: &str) -> String {
        format!("postgres://{SUPERUSER}@{addr}/{database}")
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port it listens on, on 127.0.0.1; the same after every restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// The process id of the server; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.guardian.pid()
    }

    /// The folder that holds its data and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.guardian.log()
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// When the server refuses, as it does when the database exists.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        let quoted = name.replace('"', "\"\"");
        self.execute(MAINTENANCE, &format!("create database \"{quoted}\"")).map(drop)
    }

    /// Runs SQL statements as the superuser and returns the rows of the last that has some.
    ///
    /// # Errors
    /// When the server refuses or the connection breaks.
    pub fn execute(&self, database: &str, sql: &str) -> Result<Rows, Error> {
        let name = self.guardian.name();
        let mut client =
            client::Client::connect(name, self.addr(), SUPERUSER, database, self.options.patience)?;
        client.query(sql)
    }

    /// Crashes it: every process of it ends at once, writes nothing more, and it starts again.
    ///
    /// # Errors
    /// When it does not answer again within the patience.
    pub fn crash(&self) -> Result<(), Error> {
        self.end("QUIT")?;
        self.start_again()
    }

    /// Kills every process of it with `SIGKILL`; [`start_again`](Self::start_again) starts it.
    ///
    /// # Errors
    /// When its guardian does not answer.
    pub fn kill9(&self) -> Result<(), Error> {
        self.guardian.murder()
    }

    /// Shuts it down as an operator would: connections end, everything is written.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<(), Error> {
        self.end("INT")
    }

    /// Starts it after [`stop`](Self::stop) or [`kill9`](Self::kill9), on the same port and data.
    ///
    /// # Errors
    /// When it does not answer within the patience.
    pub fn start_again(&self) -> Result<(), Error> {
        let patience = self.options.patience;
        let mut ended = false;
        self.guardian.start()?;
        let ready = until(patience, || {
            let ready = client::Client::ready(self.addr(), SUPERUSER, MAINTENANCE);
            if ready && self.guardian.alive().ok()? {
                return Some(true);
            }
            if self.guardian.alive().ok()? {
                return None;
            }
            // After kill9 the children may hold the shared memory for a moment longer.
            let held = self.log().lines().rev().take(3).any(|l| l.contains("still in use"));
            if held {
                self.guardian.start().ok()?;
                return None;
            }
            ended = true;
            Some(false)
        });
        if ready == Some(true) {
            return Ok(());
        }
        let waited = if ended { Duration::ZERO } else { patience };
        let server = self.guardian.name().to_owned();
        Err(Error::NotReady { server, waited, log: self.log() })
    }

    /// Stops the clock of all its processes: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        self.must_run(self.guardian.freeze()?)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<(), Error> {
        self.must_run(self.guardian.thaw()?)
    }

    /// Lets it outlive this process; whoever calls this has to stop it by its process id.
    ///
    /// # Errors
    /// When its guardian does not answer.
    pub fn detach(self) -> Result<(), Error> {
        self.guardian.detach()
    }

    fn end(&self, signal: &str) -> Result<(), Error> {
        self.guardian.signal(signal)?;
        if self.guardian.ended_within(STOP_PATIENCE)? {
            return Ok(());
        }
        let server = self.guardian.name().to_owned();
        Err(Error::command(format!("stopping {server}"), format!("it runs on\n{}", self.log())))
    }

    fn must_run(&self, runs: bool) -> Result<(), Error> {
        let stopped = || Error::Misuse(format!("{} does not run", self.guardian.name()));
        runs.then_some(()).ok_or_else(stopped)
    }
}

fn write(home: &Home, path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|e| Error::file("write", path, e))?;
    home.give(path)
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    let open = fs::OpenOptions::new().append(true).open(path);
    open.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| Error::file("write", path, e))
}
