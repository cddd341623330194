//! Starting everything, the servers side by side.

use super::links::{CLIENT_SIDE_BUFFER_BYTES, Links};
use super::{Endpoints, Event, Stack};
use crate::haproxy::{Backend, FrontPorts, Haproxy, Site};
use crate::kafka::{Kafka, Listener, Purpose};
use crate::options::Options;
use crate::port::Port;
use crate::postgres::{Durability, Postgres};
use crate::process::{Process, Spec};
use crate::reaper::ProcessDir;
use crate::redis::Redis;
use crate::service::{Role, Service};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use rand::Rng;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// `hubbub admin init` makes topics, databases, tables and users.
const INIT_LIMIT: Duration = Duration::from_secs(120);
/// 256 bits is the least that HS256 may have (RFC 7518, 3.2).
const SECRET_BYTES: usize = 48;

type Report<'a> = &'a (dyn Fn(Event) + Sync);

pub(super) async fn start(options: Options, report: Report<'_>) -> Result<Stack> {
    let own_dir = match &options.dir {
        Some(_) => None,
        None => Some(ProcessDir::create("hubbub-stack-")?),
    };
    let dir = options
        .dir
        .clone()
        .or(own_dir.as_ref().map(|d| d.path().to_owned()));
    let dir = dir.expect("a stack without a directory of its own was given one");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .context("resolve the stack's directory")?;

    let ports = front_ports(&options, report)?;
    let first = ports.first().context("a stack has at least one HAProxy")?;
    let (mut links, listeners) = Links::to_kafka(&options)?;
    let (redis, kafka, postgres) = tokio::try_join!(
        redis(&options, &dir, report),
        kafka(&options, &dir, listeners, report),
        postgres(&options, &dir, report),
    )?;
    links.add_servers(redis.as_ref(), &postgres)?;
    let endpoints = Endpoints {
        front_url: format!("http://{}", first.front.addr()),
        ws_url: format!("ws://{}/ws", first.front.addr()),
        stats_url: format!("http://{}", first.stats.addr()),
        redis_url: choose(&options.external.redis_url, redis.as_ref().map(Redis::url)),
        kafka_brokers: choose(
            &options.external.kafka_brokers,
            kafka.as_ref().map(Kafka::brokers),
        ),
        core_url: choose(
            &options.external.core_url,
            postgres.first().map(|core| core.url("hubbub")),
        ),
        shard_urls: match &options.external.shard_urls {
            Some(urls) => urls.clone(),
            None => shard_urls(&postgres),
        },
        topic: options.topic.clone(),
        group: options.group.clone(),
        partitions: options.partitions,
        token_secret_file: token_secret(&dir)?,
    };
    init(&options, &endpoints, &dir, report).await?;

    let origins = origins(&ports);
    let describe = |role: Role, numbers: RangeInclusive<usize>| -> Result<Vec<Service>> {
        let mut all = Vec::new();
        for n in numbers {
            let seen = links.seen_by(&format!("{}-{n}", role.word()), &endpoints);
            let (one, notes) = service(&options, &seen, &origins, &dir, (role, n))?;
            notes.into_iter().for_each(|note| report(Event::Note(note)));
            all.push(one);
        }
        Ok(all)
    };
    let edges = describe(Role::Edge, 1..=options.edges)?;
    let apis = describe(Role::Api, 1..=options.apis)?;
    let most = options.consumers + options.spare_consumers;
    let mut consumers = describe(Role::Consumer, 1..=most)?;
    let spare_consumers = consumers.split_off(options.consumers);
    let ours = edges.iter().chain(&apis).chain(&consumers);
    try_join_all(ours.map(|service| start_service(service, report))).await?;
    // Last, so that its first look finds everybody: a server that was down once begins slowly.
    let haproxies = haproxies(
        &options,
        &dir,
        ports,
        (&edges, &apis),
        &origins,
        &mut links,
        report,
    );
    let haproxies = haproxies.await?;
    Ok(Stack {
        haproxies,
        edges,
        apis,
        consumers,
        spare_consumers,
        links,
        clients: AtomicUsize::new(0),
        origins,
        redis,
        kafka,
        postgres,
        endpoints,
        options,
        dir,
        _own_dir: own_dir,
    })
}

/// Describes number `n` (from 1) of a role; the second value is what is worth knowing about it.
pub(super) fn service(
    options: &Options,
    endpoints: &Endpoints,
    origins: &[String],
    dir: &Path,
    (role, n): (Role, usize),
) -> Result<(Service, Vec<String>)> {
    let nth = u16::try_from(n).context("fewer than 65,536 processes")?;
    let name = format!("{}-{n}", role.word());
    let (listen, ops) = role.standard_ports();
    let (ops, ops_note) = options.port(ops + nth, &format!("the ops port of {name}"))?;
    let listen = listen
        .map(|base| options.port(base + nth, &name))
        .transpose()?;
    let (listen, listen_note) = listen.unzip();
    let mut env = endpoints.env();
    env.push(("HUBBUB_ALLOWED_ORIGINS".to_owned(), origins.join(",")));
    env.push(("HUBBUB_REGION".to_owned(), "home".to_owned()));
    env.extend(options.env.iter().cloned());
    let service = Service::new(
        role,
        n,
        (listen, ops),
        env,
        &options.bin_dir,
        &dir.join("log"),
    );
    Ok((
        service,
        listen_note.flatten().into_iter().chain(ops_note).collect(),
    ))
}

/// Each with all backends, through links of its own if there are any.
async fn haproxies(
    options: &Options,
    dir: &Path,
    ports: Vec<FrontPorts>,
    (edges, apis): (&[Service], &[Service]),
    origins: &[String],
    links: &mut Links,
    report: Report<'_>,
) -> Result<Vec<Haproxy>> {
    let backends = |all: &[Service]| all.iter().map(Service::backend).collect::<Vec<Backend>>();
    let (edges, apis) = (backends(edges), backends(apis));
    let alone = options.haproxies == 1 && !options.links;
    let mut starts = Vec::new();
    for (n, ports) in (1..).zip(ports) {
        let name = if alone {
            "haproxy".to_owned()
        } else {
            format!("haproxy-{n}")
        };
        let (edges, apis) = if options.links {
            let edges = links.add_backends(&name, &edges)?;
            (edges, links.add_backends(&name, &apis)?)
        } else {
            (edges.clone(), apis.clone())
        };
        let site = Site {
            edges,
            apis,
            origins: origins.to_vec(),
            buffer_bytes: options.links.then_some(CLIENT_SIDE_BUFFER_BYTES),
            name,
        };
        starts.push(async move {
            let (home, front) = (dir.join(&site.name), ports.front.addr());
            let start = Haproxy::launch_site(&home, ports, &site);
            timed(report, &site.name, || format!("http://{front}"), start).await
        });
    }
    try_join_all(starts).await
}

async fn start_service(service: &Service, report: Report<'_>) -> Result<()> {
    let place = || match service.role() {
        Role::Consumer => format!("ops {}", service.ops_addr()),
        _ => format!("{}, ops {}", service.addr(), service.ops_addr()),
    };
    timed(report, &service.name(), place, service.start()).await
}

async fn redis(options: &Options, dir: &Path, report: Report<'_>) -> Result<Option<Redis>> {
    if let Some(url) = &options.external.redis_url {
        report(Event::Note(format!(
            "Redis: yours, {}",
            without_password(url)
        )));
        return Ok(None);
    }
    let port = port(options, 6379, "Redis", report)?;
    let at = port.addr();
    let home = dir.join("redis");
    let start = Redis::launch(&home, port);
    timed(report, "redis", || at.to_string(), start)
        .await
        .map(Some)
}

async fn kafka(
    options: &Options,
    dir: &Path,
    listeners: Vec<Listener>,
    report: Report<'_>,
) -> Result<Option<Kafka>> {
    if let Some(brokers) = &options.external.kafka_brokers {
        report(Event::Note(format!("Kafka: yours, {brokers}")));
        return Ok(None);
    }
    let broker = port(options, 9092, "Kafka", report)?;
    let controller = port(options, 9093, "Kafka's controller", report)?;
    let purpose = match options.durability {
        Durability::Durable => Purpose::Lasting,
        Durability::ThrowAway => Purpose::ThrowAway,
    };
    let at = broker.addr();
    let home = dir.join("kafka");
    let start = Kafka::launch_with(&home, (broker, controller), listeners, purpose);
    timed(report, "kafka", || at.to_string(), start)
        .await
        .map(Some)
}

/// The core's cluster, then one per shard.
async fn postgres(options: &Options, dir: &Path, report: Report<'_>) -> Result<Vec<Postgres>> {
    if let Some(url) = &options.external.core_url {
        report(Event::Note(format!(
            "Postgres: yours, {}",
            without_password(url)
        )));
        return Ok(Vec::new());
    }
    let mut starts = Vec::new();
    let names = (0..options.shards).map(|i| format!("shard-{i}"));
    for (name, standard) in std::iter::once("core".to_owned()).chain(names).zip(5432..) {
        let port = port(options, standard, &name, report)?;
        let home = dir.join(&name);
        starts.push(async move {
            let at = port.addr();
            let start = Postgres::launch(&name, &home, port, options.durability);
            timed(report, &name, || at.to_string(), start).await
        });
    }
    try_join_all(starts).await
}

fn shard_urls(clusters: &[Postgres]) -> Vec<String> {
    let shards = clusters.iter().skip(1).enumerate();
    shards
        .map(|(i, shard)| shard.url(&format!("hubbub_shard_{i}")))
        .collect()
}

/// `hubbub admin init`: idempotent, so it runs at every start.
async fn init(
    options: &Options,
    endpoints: &Endpoints,
    dir: &Path,
    report: Report<'_>,
) -> Result<()> {
    let program = options.bin_dir.join("hubbub").display().to_string();
    let mut argv = vec![program, "admin".to_owned(), "init".to_owned()];
    if options.seed {
        argv.push("--seed".to_owned());
    }
    let mut env = endpoints.env();
    env.extend(options.env.iter().cloned());
    let process = Process::new(Spec {
        name: "hubbub admin init".to_owned(),
        argv,
        env,
        log: dir.join("log").join("admin-init.log"),
        run_as: None,
        stop_signal: Signal::SIGTERM,
        stop_grace: Duration::from_secs(5),
    });
    let what = || {
        format!(
            "{} partitions, {} shards",
            options.partitions,
            endpoints.shard_urls.len()
        )
    };
    timed(report, "admin init", what, async {
        process.spawn().await?;
        match timeout(INIT_LIMIT, process.exited()).await {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(_) => Err(process.failure("failed")),
            Err(_) => Err(process.failure(&format!("is not done after {INIT_LIMIT:?}"))),
        }
    })
    .await
}

/// Runs one step and reports it when it is done.
async fn timed<T>(
    report: Report<'_>,
    name: &str,
    detail: impl Fn() -> String,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    let start = Instant::now();
    let done = step.await?;
    report(Event::Ready {
        name: name.to_owned(),
        detail: detail(),
        took: start.elapsed(),
    });
    Ok(done)
}

fn port(options: &Options, standard: u16, what: &str, report: Report<'_>) -> Result<Port> {
    let (port, note) = options.port(standard, what)?;
    note.into_iter().for_each(|note| report(Event::Note(note)));
    Ok(port)
}

fn front_ports(options: &Options, report: Report<'_>) -> Result<Vec<FrontPorts>> {
    let standard = (8080..).zip(8404..).take(options.haproxies);
    let ports = standard.map(|(front, stats)| {
        Ok(FrontPorts {
            front: port(options, front, "the front port", report)?,
            stats: port(options, stats, "the stats page", report)?,
        })
    });
    ports.collect()
}

fn choose(external: &Option<String>, own: Option<String>) -> String {
    external
        .clone()
        .or(own)
        .expect("what is not the user's was started")
}

/// The page's own origin at every front door, by both names that a browser may be given.
fn origins(ports: &[FrontPorts]) -> Vec<String> {
    let origins = ports.iter().flat_map(|ports| {
        let by_address = format!("http://{}", ports.front.addr());
        let by_name = by_address.replace("127.0.0.1", "localhost");
        [by_address, by_name]
    });
    origins.collect()
}

/// Makes the key once per directory: tokens stay valid over restarts.
fn token_secret(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("jwt.secret");
    if path.exists() {
        return Ok(path);
    }
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .context("write the token secret")?;
    Ok(path)
}

/// A URL for the screen.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…@{}", &url[..scheme], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}
