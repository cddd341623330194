//! Apache Kafka, one node in KRaft mode, from its Maven jars.

mod install;

use crate::environment::find_program;
use crate::port::Port;
use crate::process::Spec;
use crate::server::{Ready, Server};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The class path and log configuration are the same for every run.
const FLAGS: [&str; 6] = [
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
];

/// What the broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A long-lived broker: the compiler optimises fully.
    Lasting,
    /// A broker for tests: half the start-up time, a slower code.
    ThrowAway,
}

/// One more port of the broker, for one client: whoever connects there is told to come back to
/// `advertised`, where its proxy is.
#[derive(Debug)]
pub struct Listener {
    /// Kafka's name for it: letters, digits and underscores.
    pub name: String,
    /// Where the broker listens.
    pub port: Port,
    /// What its clients are told.
    pub advertised: SocketAddr,
}

/// A Kafka broker on loopback.
#[derive(Debug)]
pub struct Kafka {
    server: Server,
    broker: Port,
    /// Held, so that a restart finds it free.
    controller: Port,
    listeners: Vec<Listener>,
}

impl Kafka {
    /// Starts a broker with its data in `dir/data` (formatted if new) on two ports. The first
    /// call on a machine fetches the jars.
    ///
    /// # Errors
    /// When there is no JDK or Maven, the jars cannot be fetched, or the broker does not start.
    pub async fn launch(
        dir: &Path,
        broker: Port,
        controller: Port,
        purpose: Purpose,
    ) -> Result<Self> {
        Self::launch_with(dir, (broker, controller), Vec::new(), purpose).await
    }

    /// [`Kafka::launch`] with more listeners. They survive a kill and a start.
    ///
    /// # Errors
    /// As [`Kafka::launch`].
    pub async fn launch_with(
        dir: &Path,
        (broker, controller): (Port, Port),
        listeners: Vec<Listener>,
        purpose: Purpose,
    ) -> Result<Self> {
        let home = install::ensure().await?;
        let ports = configuration(broker.number(), controller.number(), &listeners);
        let ready = Ready::Kafka(broker.addr());
        let server = Self::server(&home, dir, &ports, ready, purpose).await?;
        server.start().await?;
        Ok(Self {
            server,
            broker,
            controller,
            listeners,
        })
    }

    /// Fetches the jars and prepares the class archive if that was not done before.
    ///
    /// # Errors
    /// When there is no JDK or Maven, or the jars cannot be fetched.
    pub async fn install() -> Result<()> {
        install::ensure().await.map(drop)
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.broker.addr().to_string()
    }

    /// The controller's port.
    #[must_use]
    pub fn controller_port(&self) -> u16 {
        self.controller.number()
    }

    /// The listeners beside the ordinary one.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    async fn server(
        home: &install::Home,
        dir: &Path,
        configuration: &str,
        ready: Ready,
        purpose: Purpose,
    ) -> Result<Server> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let properties = dir.join("server.properties");
        let data = dir.join("data");
        let text = format!("{configuration}log.dirs={}\n", data.display());
        std::fs::write(&properties, text).context("write server.properties")?;

        let mut java = java_command(home)?;
        let compiler = "-XX:TieredStopAtLevel=1".to_owned();
        if !data.join("meta.properties").exists() {
            let mut format = java.clone();
            format.push(compiler.clone());
            format.extend(["-cp".to_owned(), home.class_path()]);
            tokio::task::spawn_blocking(move || storage_format(&format, &properties))
                .await
                .context("format the log directory")??;
        }
        if purpose == Purpose::ThrowAway {
            java.push(compiler);
        }
        java.extend(home.extra_flags.iter().cloned());
        java.extend([
            "-cp".to_owned(),
            home.class_path(),
            "kafka.Kafka".to_owned(),
        ]);
        java.push(dir.join("server.properties").display().to_string());
        let spec = Spec {
            name: "kafka".to_owned(),
            argv: java,
            env: Vec::new(),
            log: dir.join("kafka.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(15),
        };
        Ok(Server::new(spec, ready, Duration::from_secs(90)))
    }
}

/// All that can be done to a server.
impl Deref for Kafka {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

fn java_command(home: &install::Home) -> Result<Vec<String>> {
    let java = find_program("java").context(
        "no `java`: a JDK 17 or later is needed, for instance \
         apt-get install --no-install-recommends default-jdk-headless",
    )?;
    let mut command = vec![java.display().to_string()];
    command.extend(FLAGS.map(str::to_owned));
    let log4j = home.log4j().display().to_string();
    command.push(format!("-Dlog4j2.configurationFile={log4j}"));
    if home.archive().exists() {
        let archive = home.archive().display().to_string();
        command.push(format!("-XX:SharedArchiveFile={archive}"));
    }
    Ok(command)
}

/// Gives a new log directory its identity.
fn storage_format(java: &[String], properties: &Path) -> Result<()> {
    let output = Command::new(&java[0])
        .args(&java[1..])
        .args(["kafka.tools.StorageTool", "format", "--standalone"])
        .args(["--ignore-formatted", "-t", &cluster_id(), "-c"])
        .arg(properties)
        .output()
        .context("run Kafka's storage tool")?;
    if !output.status.success() {
        let (out, err) = (&output.stdout, &output.stderr);
        let said = [String::from_utf8_lossy(out), String::from_utf8_lossy(err)].concat();
        bail!("Kafka's storage tool failed: {said}");
    }
    Ok(())
}

/// A random id in Kafka's spelling. One that began with a dash would be taken for an option.
fn cluster_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// Why the unusual ones: with the default broker session of 9 s a killed broker is back only when
/// the controller has waited its old session out; the cleaner's default buffer is 128 MiB of heap.
/// Each listener has network threads of its own, so that more than the ordinary one get by on one.
fn configuration(broker: u16, controller: u16, more: &[Listener]) -> String {
    let (mut listen, mut advertise, mut protocols) = (String::new(), String::new(), String::new());
    for Listener {
        name,
        port,
        advertised,
    } in more
    {
        listen.push_str(&format!(",{name}://{}", port.addr()));
        advertise.push_str(&format!(",{name}://{advertised}"));
        protocols.push_str(&format!(",{name}:PLAINTEXT"));
    }
    let threads = if more.is_empty() { 3 } else { 1 };
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{listen}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{advertise}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}
num.network.threads={threads}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
"
    )
}
