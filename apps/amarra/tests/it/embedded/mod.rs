//! The whole shop in one process on files, as somebody with nothing installed runs it.

mod life;
mod refusals;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use testbed::Process;

use crate::front::{Front, PATIENCE};

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_amarra");

/// A folder of one test.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("embedded-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a failed test left is worth a look.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Runs a verb to its end.
fn amarra(args: &[&str], data: Option<&Path>) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// Reads the JSON lines of a verb that has to succeed.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// A shop at work.
#[derive(Debug)]
struct Shop {
    process: Child,
    front: Front,
}

impl Shop {
    /// Starts a shop in a folder and waits until it is open.
    fn open(folder: &Folder, args: &[&str]) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["serve", "--json", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder.data())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = out.next() {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["kind"] == "ready" {
                    let _ = tell.send(line["url"].as_str().unwrap_or_default().to_owned());
                }
            }
        });
        let url = told.recv_timeout(PATIENCE).expect("the shop opens");
        Self { process, front: Front::new(&url) }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks the shop to stop and returns how it ended.
    fn stop(mut self) -> ExitStatus {
        Process::of(self.process.id()).unwrap().signal("TERM").unwrap();
        self.process.wait().unwrap()
    }

    /// Asks the shop to stop, and checks that it does so in order.
    fn end(self) {
        let status = self.stop();
        assert!(status.success(), "code {:?}, signal {:?}", status.code(), status.signal());
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
