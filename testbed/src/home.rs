//! The folder that holds installed servers and the data of running ones.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::port::draw;

/// Names the folder to use instead of the one in the workspace.
const OVERRIDE: &str = "AMARRA_SERVERS_DIR";

/// Where servers are installed and run: `target/servers` of the workspace.
///
/// Servers that refuse to run as root run as `nobody`, who may be unable to enter the workspace;
/// then it is a folder of ours in the system's folder for temporary files.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    runner: Option<Runner>,
}

/// The user that servers run as when we are root.
#[derive(Debug, Clone, Copy)]
struct Runner {
    uid: u32,
    gid: u32,
}

impl Home {
    /// Finds or makes the folder.
    ///
    /// # Errors
    /// When no candidate can be written by us and entered by the user that servers run as.
    pub fn find() -> Result<Self, Error> {
        let uid = own_uid()?;
        let runner = if uid == 0 { Some(nobody()?) } else { None };
        let temporary = std::env::temp_dir().join(format!("amarra-servers-{uid}"));
        let candidates = match std::env::var_os(OVERRIDE) {
            Some(dir) => vec![PathBuf::from(dir)],
            None => vec![workspace().join("target").join("servers"), temporary],
        };
        let mut reasons = Vec::new();
        for dir in candidates {
            let home = Self { dir, runner };
            match home.prepare(uid) {
                Ok(()) => return Ok(home),
                Err(e) => reasons.push(e.to_string()),
            }
        }
        Err(Error::Misuse(format!(
            "no folder for servers is usable ({}); set {OVERRIDE} to one that every user may enter",
            reasons.join("; ")
        )))
    }

    fn prepare(&self, uid: u32) -> Result<(), Error> {
        let dir = &self.dir;
        fs::create_dir_all(dir).map_err(|e| Error::file("create", dir, e))?;
        let about = fs::metadata(dir).map_err(|e| Error::file("look at", dir, e))?;
        if about.uid() != uid {
            return Err(Error::Misuse(format!("{} belongs to somebody else", dir.display())));
        }
        if self.runner.is_some() {
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir, open).map_err(|e| Error::file("open", dir, e))?;
            let text = dir.to_string_lossy().into_owned();
            let mut test = self.as_runner(&["test", "-r", &text, "-a", "-x", &text]);
            let status = test.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !status.is_ok_and(|s| s.success()) {
                return Err(Error::Misuse(format!("nobody cannot enter {}", dir.display())));
            }
        }
        Ok(())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes a folder inside it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(|e| Error::file("create", &dir, e))?;
        Ok(dir)
    }

    /// Makes an empty folder for the run of one server, owned by the user it runs as.
    pub(crate) fn run_folder(&self, server: &str) -> Result<PathBuf, Error> {
        let dir = self.folder("run")?.join(format!("{server}-{:016x}", draw()));
        fs::create_dir(&dir).map_err(|e| Error::file("create", &dir, e))?;
        self.give(&dir)?;
        Ok(dir)
    }

    /// Gives a file or folder to the user that servers run as.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some(runner) = self.runner else { return Ok(()) };
        chown(path, Some(runner.uid), Some(runner.gid))
            .map_err(|e| Error::file("give away", path, e))
    }

    /// The words before a command that has to run as that user; empty when we are not root.
    pub(crate) fn runner_words(&self) -> Vec<String> {
        let Some(runner) = self.runner else { return Vec::new() };
        let ids = [format!("--reuid={}", runner.uid), format!("--regid={}", runner.gid)];
        let mut words = vec!["setpriv".to_owned()];
        words.extend(ids);
        words.push("--clear-groups".to_owned());
        words
    }

    /// A command that runs as that user.
    pub(crate) fn as_runner(&self, command: &[&str]) -> Command {
        let mut words = self.runner_words();
        words.extend(command.iter().map(|word| (*word).to_owned()));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir("/").stdin(Stdio::null());
        command
    }

    /// Takes a lock that every process of the testbed respects, for as long as the file is held;
    /// waits for whoever holds it.
    ///
    /// # Errors
    /// When the file of the lock cannot be made or locked.
    pub fn lock(&self, name: &str) -> Result<File, Error> {
        let path = self.folder("locks")?.join(name);
        let file = File::create(&path).map_err(|e| Error::file("create", &path, e))?;
        file.lock().map_err(|e| Error::file("lock", &path, e))?;
        Ok(file)
    }
}

fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The user this process acts as; the owner of its own entry in `/proc` says so.
pub(crate) fn own_uid() -> Result<u32, Error> {
    let own = Path::new("/proc/self");
    fs::metadata(own).map(|about| about.uid()).map_err(|e| Error::file("look at", own, e))
}

fn nobody() -> Result<Runner, Error> {
    let path = Path::new("/etc/passwd");
    let users = fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    let line = users.lines().find(|line| line.starts_with("nobody:"));
    let ids: Vec<u32> =
        line.into_iter().flat_map(|l| l.split(':')).filter_map(|f| f.parse().ok()).collect();
    match ids.as_slice() {
        [uid, gid, ..] => Ok(Runner { uid: *uid, gid: *gid }),
        _ => Err(Error::Missing {
            program: "the user nobody".into(),
            needed_for: "running PostgreSQL while being root".into(),
            remedy: "create it, or run as an ordinary user".into(),
        }),
    }
}
