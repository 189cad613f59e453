//! PostgreSQL 18 from Maven Central, 15 from Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{JAVA, MAVEN, UNZIP, XZ, apt, need, run};
use super::{PgInstalled, kafka::maven};
use crate::error::Error;
use crate::home::Home;
use crate::postgres::PgVersion;

/// The release that is taken from Maven Central.
const RELEASE: &str = "18.1.0";
/// Names the folder of PostgreSQL 15's programs where it is in no usual place.
const OVERRIDE_15: &str = "AMARRA_PG15_BIN";
const USUAL_15: &[&str] = &["/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin"];

pub(super) fn install(home: &Home, version: PgVersion) -> Result<PgInstalled, Error> {
    let bin = match version {
        PgVersion::V18 => from_maven(home)?,
        PgVersion::V15 => from_debian()?,
    };
    let template = template(home, version, &bin)?;
    Ok(PgInstalled { bin, template })
}

/// The platform's name of the artifact.
fn platform() -> Result<&'static str, Error> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-amd64"),
        ("linux", "aarch64") => Ok("linux-arm64v8"),
        (os, arch) => Err(Error::Missing {
            program: "a build of PostgreSQL".into(),
            needed_for: format!("{os} on {arch}"),
            remedy: "use Linux on x86-64 or arm64".into(),
        }),
    }
}

fn from_maven(home: &Home) -> Result<PathBuf, Error> {
    let platform = platform()?;
    let dir = home.path().join(format!("postgres-{RELEASE}"));
    let bin = dir.join("bin");
    if bin.join("postgres").is_file() {
        return Ok(bin);
    }
    let why = "installing PostgreSQL 18";
    need(&[MAVEN, JAVA, UNZIP, XZ], why)?;
    let partial = home.path().join(format!("postgres-{RELEASE}.partial"));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(|e| Error::file("create", &partial, e))?;
    let artifact =
        format!("io.zonky.test.postgres:embedded-postgres-binaries-{platform}:{RELEASE}:jar");
    let mut copy = maven(home, "copy")?;
    copy.arg(format!("-Dartifact={artifact}"));
    copy.arg(format!("-DoutputDirectory={}", partial.display()));
    run("downloading PostgreSQL 18 through Maven", &mut copy)?;
    let jar = only(&partial, "jar")?;
    let mut unzip = Command::new("unzip");
    run("unpacking the jar of PostgreSQL", unzip.arg("-q").arg(&jar).arg("-d").arg(&partial))?;
    let archive = only(&partial, "txz")?;
    let mut tar = Command::new("tar");
    tar.arg("--no-same-owner").arg("-xJf").arg(&archive).arg("-C").arg(&partial);
    run("unpacking PostgreSQL", &mut tar)?;
    for file in [jar, archive] {
        fs::remove_file(&file).map_err(|e| Error::file("remove", &file, e))?;
    }
    fs::rename(&partial, &dir).map_err(|e| Error::file("name", &dir, e))?;
    Ok(bin)
}

fn only(dir: &Path, extension: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(dir).map_err(|e| Error::file("list", dir, e))?;
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let found = paths.find(|path| path.extension().is_some_and(|e| e == extension));
    let absent = || Error::command("unpacking PostgreSQL", format!("it holds no .{extension}"));
    found.ok_or_else(absent)
}

fn from_debian() -> Result<PathBuf, Error> {
    let named = std::env::var_os(OVERRIDE_15).map(PathBuf::from);
    let usual = || named.iter().cloned().chain(USUAL_15.iter().map(PathBuf::from));
    let find = || usual().find(|bin| bin.join("postgres").is_file());
    if let Some(bin) = find() {
        return Ok(bin);
    }
    apt("postgresql-15", "the second version of the test matrix")?;
    find().ok_or_else(|| Error::Missing {
        program: "PostgreSQL 15".into(),
        needed_for: "the second version of the test matrix".into(),
        remedy: format!("install it and set {OVERRIDE_15} to the folder of its programs"),
    })
}

/// An initialised data folder: copying it takes a tenth of initialising one.
fn template(home: &Home, version: PgVersion, bin: &Path) -> Result<PathBuf, Error> {
    let dir = home.folder("templates")?.join(format!("postgres-{}", version.number()));
    if dir.join("PG_VERSION").is_file() {
        return Ok(dir);
    }
    let partial = home.run_folder("initdb")?;
    let data = partial.join("data");
    let initdb = bin.join("initdb");
    let (initdb, target) = (initdb.to_string_lossy(), data.to_string_lossy());
    let mut words = vec![initdb.as_ref(), "-D", target.as_ref(), "-U", "app", "-A", "trust"];
    words.extend(["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
    let mut command = home.as_runner(&words);
    command.env("HOME", &partial).env_remove("PGDATA");
    run("initialising a data folder of PostgreSQL", &mut command)?;
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&data, &dir).map_err(|e| Error::file("name", &dir, e))?;
    let _ = fs::remove_dir_all(&partial);
    Ok(dir)
}
