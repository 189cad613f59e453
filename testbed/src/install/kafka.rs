//! Apache Kafka's jars from Maven Central, and formatted data folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::KafkaInstalled;
use super::tools::{JAVA, MAVEN, need, run};
use crate::error::Error;
use crate::home::Home;

/// The release of Kafka.
const RELEASE: &str = "4.1.2";
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";
/// Any cluster id: the clusters are private.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
/// The most nodes a cluster has.
pub(crate) const NODES_MAX: u8 = 3;

/// All five are named, or an older slf4j-api wins and logging dies.
const ARTIFACTS: &[(&str, &str, &str)] = &[
    ("org.apache.kafka", "kafka_2.13", RELEASE),
    ("org.slf4j", "slf4j-api", "2.0.20"),
    ("org.slf4j", "slf4j-simple", "2.0.20"),
    ("org.apache.logging.log4j", "log4j-api", "2.26.1"),
    ("org.apache.logging.log4j", "log4j-core", "2.26.1"),
];

pub(super) fn install(home: &Home) -> Result<KafkaInstalled, Error> {
    let jars = jars(home)?;
    let templates = templates(home, &jars)?;
    Ok(KafkaInstalled { jars, templates })
}

/// A command of Maven's dependency plugin.
pub(super) fn maven(home: &Home, goal: &str) -> Result<Command, Error> {
    let mut command = Command::new("mvn");
    command.args(["-q", "-B"]).arg(format!("{PLUGIN}:{goal}"));
    command.current_dir(home.folder("maven")?);
    Ok(command)
}

fn jars(home: &Home) -> Result<PathBuf, Error> {
    need(&[JAVA], "running Kafka")?;
    let dir = home.path().join(format!("kafka-{RELEASE}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    need(&[MAVEN], "installing Kafka")?;
    let partial = home.path().join(format!("kafka-{RELEASE}.partial"));
    let _ = fs::remove_dir_all(&partial);
    let pom = home.folder("maven")?.join("kafka.pom.xml");
    fs::write(&pom, project()).map_err(|e| Error::file("write", &pom, e))?;
    let mut copy = maven(home, "copy-dependencies")?;
    copy.arg("-f").arg(&pom).arg("-DincludeScope=runtime");
    copy.arg(format!("-DoutputDirectory={}", partial.display()));
    run("downloading Kafka through Maven", &mut copy)?;
    fs::rename(&partial, &dir).map_err(|e| Error::file("name", &dir, e))?;
    Ok(dir)
}

fn project() -> String {
    let dependency = |(group, name, version): &(&str, &str, &str)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let dependencies: String = ARTIFACTS.iter().map(dependency).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>amarra</groupId><artifactId>kafka</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
    )
}

/// Formats a data folder for each node: copying one spares the start of a JVM.
fn templates(home: &Home, jars: &Path) -> Result<PathBuf, Error> {
    let dir = home.folder("templates")?.join(format!("kafka-{RELEASE}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    let partial = home.run_folder("format")?;
    for node in 1..=NODES_MAX {
        let data = partial.join(format!("node-{node}"));
        let file = partial.join("server.properties");
        let text = format!(
            "process.roles=broker,controller\nnode.id={node}\n\
             controller.quorum.voters={node}@127.0.0.1:9093\n\
             listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n",
            data.display()
        );
        fs::write(&file, text).map_err(|e| Error::file("write", &file, e))?;
        let mut format = Command::new("java");
        format.arg("-cp").arg(format!("{}/*", jars.display())).arg("kafka.tools.StorageTool");
        format.args(["format", "-t", CLUSTER, "-g", "-c"]).arg(&file);
        run("formatting a data folder of Kafka", &mut format)?;
        let _ = fs::remove_file(&file);
    }
    fs::rename(&partial, &dir).map_err(|e| Error::file("name", &dir, e))?;
    Ok(dir)
}
