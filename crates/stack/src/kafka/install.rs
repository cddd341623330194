//! Fetching Kafka once per machine: its jars by Maven, then an archive of its loaded classes,
//! which halves every later start.

use super::{Kafka, Purpose};
use crate::environment::{cache_dir, find_program};
use crate::port::Port;
use crate::server::Ready;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "4.3.1";
const POM: &str = include_str!("../../kafka/pom.xml");
const LOG4J: &str = include_str!("../../kafka/log4j2.properties");
const COPY_DEPENDENCIES: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// A repository may fail once. Maven keeps what has come, and fetches the rest.
const ATTEMPTS: usize = 3;

/// An installed Kafka.
#[derive(Debug, Clone)]
pub(super) struct Home {
    dir: PathBuf,
    /// Given to the broker alone: how the class archive is recorded.
    pub(super) extra_flags: Vec<String>,
}

impl Home {
    fn libs(&self) -> PathBuf {
        self.dir.join("libs")
    }

    pub(super) fn class_path(&self) -> String {
        format!("{}/*", self.libs().display())
    }

    pub(super) fn log4j(&self) -> PathBuf {
        self.dir.join("log4j2.properties")
    }

    /// The class archive. A Java that does not fit it ignores it.
    pub(super) fn archive(&self) -> PathBuf {
        self.dir.join("kafka.jsa")
    }
}

/// Installs what is missing, one process at a time.
pub(super) async fn ensure() -> Result<Home> {
    let dir = cache_dir()?.join(format!("kafka-{VERSION}"));
    let home = Home {
        dir: dir.clone(),
        extra_flags: Vec::new(),
    };
    let at = home.clone();
    let lock = tokio::task::spawn_blocking(move || fetch(&at, &dir)).await;
    let lock = lock.context("fetch Kafka")??;
    if !home.archive().exists() {
        record_classes(&home).await?;
    }
    drop(lock);
    Ok(home)
}

/// Fetches the jars under the lock that is returned.
fn fetch(home: &Home, dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context("open the lock of Kafka's cache")?;
    lock.lock().context("wait for another installation")?;
    std::fs::write(home.log4j(), LOG4J).context("write Kafka's log configuration")?;
    if home.libs().exists() {
        return Ok(lock);
    }
    let maven = find_program("mvn").context(
        "no `mvn`: Maven fetches Kafka's jars, for instance \
         apt-get install --no-install-recommends maven",
    )?;
    let pom = dir.join("pom.xml");
    std::fs::write(&pom, POM).context("write Kafka's pom")?;
    let part = dir.join("libs.part");
    if part.exists() {
        std::fs::remove_dir_all(&part).context("remove a half download")?;
    }
    let mut command = Command::new(maven);
    command
        .args(["-q", "-B", "-Dstyle.color=never", "-f"])
        .arg(&pom)
        .args([COPY_DEPENDENCIES, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", part.display()));
    let mut output = command.output().context("run Maven")?;
    for _ in 1..ATTEMPTS {
        if output.status.success() {
            break;
        }
        output = command.output().context("run Maven")?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        bail!("Maven could not fetch Kafka {VERSION}; is its repository reachable?\n{said}");
    }
    std::fs::rename(&part, home.libs()).context("keep Kafka's jars")?;
    Ok(lock)
}

/// Runs a broker once and lets Java write down the classes it loaded.
async fn record_classes(home: &Home) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("hubbub-kafka-").tempdir()?;
    let part = home.dir.join("kafka.jsa.part");
    let mut recording = home.clone();
    recording.extra_flags = vec![format!("-XX:ArchiveClassesAtExit={}", part.display())];
    let (broker, controller) = (Port::free()?, Port::free()?);
    let dir = scratch.path();
    let purpose = Purpose::ThrowAway;
    let text = super::configuration(broker.number(), controller.number(), &[]);
    let ready = Ready::Kafka(broker.addr());
    let server = Kafka::server(&recording, dir, &text, ready, purpose).await?;
    server.start().await?;
    server.stop().await;
    // Only a faster start hangs on it, so a Java that cannot do it is no error.
    if part.exists() {
        std::fs::rename(&part, home.archive()).context("keep Kafka's class archive")?;
    }
    Ok(())
}
