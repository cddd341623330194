use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use super::{
    echo::Echo, http, idle, log::Log, pg_copy, redis::Redis, relay, relay_in::RelayIn,
    relay_out::RelayOut, resp, send_loop::SendLoop, server::serve, writev::Writev,
};
use crate::wire::clock::{pin, raise_file_limit};

/// The least that a machine must do for a job: what servers are held against.
#[derive(Debug, Parser)]
#[command(name = "floor")]
pub struct Args {
    /// The core to run on.
    #[arg(long, global = true)]
    cpu: Option<usize>,
    /// Where to listen, if the program does.
    #[arg(long, global = true, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// Fan-out with one write per delivery of a shared frame.
    SendLoop,
    /// Fan-out with one writev per socket and batch.
    WritevB,
    /// Every frame is answered to its sender, with one write per read.
    EpollEcho {
        /// Answer with `ok` and the message's index in so many bytes, instead of the payload.
        #[arg(long)]
        answer_bytes: Option<usize>,
    },
    /// Frame in, log, acknowledgement, `ok` out.
    LogFloor {
        #[command(flatten)]
        log: LogArgs,
        /// Publish each message, too, once the log has it.
        #[arg(long, value_parser = redis_address)]
        redis: Option<SocketAddr>,
    },
    /// Both pods of the bare relay, a process each: client, log, Redis, client.
    RelayFloor {
        #[command(flatten)]
        log: LogArgs,
        /// `redis://host:port`.
        #[arg(long, value_parser = redis_address)]
        redis: SocketAddr,
        /// The core of the second pod, if another.
        #[arg(long)]
        cpu_b: Option<usize>,
    },
    /// The relay's first pod: frame in, log, acknowledgement, PUBLISH and `ok` out.
    RelayIn {
        #[command(flatten)]
        log: LogArgs,
        /// `redis://host:port`.
        #[arg(long, value_parser = redis_address)]
        redis: SocketAddr,
    },
    /// The relay's second pod: SUBSCRIBE, and one writev per socket and read of Redis.
    RelayOut {
        /// `redis://host:port`.
        #[arg(long, value_parser = redis_address)]
        redis: SocketAddr,
    },
    /// Redis's protocol by hand, pipelined.
    RespFloor {
        /// Which side.
        side: Side,
        /// `redis://host:port`.
        #[arg(long, value_parser = redis_address)]
        redis: SocketAddr,
        /// Commands that wait for their answer at once.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
        senders: u64,
        /// Messages of a round.
        #[arg(long)]
        messages: u64,
        /// Bytes of a message, from 38 on.
        #[arg(long, default_value_t = 200)]
        payload: usize,
        /// Channels, dealt round robin.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        channels: u64,
    },
    /// COPY BINARY into a table like the store's.
    PgCopy {
        /// `postgres://user@host:port/database`.
        #[arg(long)]
        url: String,
        /// Rows of a round.
        #[arg(long)]
        rows: u64,
        /// Rows of a transaction.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        batch: u64,
        /// Channels, dealt round robin.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        channels: u64,
        /// Bytes of text of a message.
        #[arg(long, default_value_t = 200)]
        payload: usize,
        /// Without the unique key on message ids.
        #[arg(long)]
        one_key: bool,
    },
    /// hyper that answers with a page that is ready.
    BareHttp {
        /// Bytes of the page.
        #[arg(long, default_value_t = 13_800)]
        body_bytes: usize,
        /// Its content type.
        #[arg(long, default_value = "application/json")]
        content_type: String,
    },
    /// tokio and tungstenite that hold sockets.
    Idle {
        /// A socket that says nothing for so long is pinged.
        #[arg(long)]
        ping_ms: Option<u64>,
        /// Bytes of a socket's read buffer.
        #[arg(long, default_value_t = 512)]
        read_buffer: usize,
    },
    /// As `idle`, of sockets whose tokens are checked as Hubbub checks them.
    Accept {
        /// The HS256 secret; issuer and audience are `hubbub`.
        #[arg(long)]
        token_secret_file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// PUBLISH, so many at once.
    Publish,
    /// SUBSCRIBE, and check that every message comes.
    Consume,
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// The brokers, `host:port`, separated by commas.
    #[arg(long)]
    brokers: String,
    /// A topic that exists.
    #[arg(long)]
    topic: String,
}

/// The address of `redis://host:port` or `host:port`.
fn redis_address(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.strip_prefix("redis://").unwrap_or(url);
    let address = address.split('/').next().unwrap_or(address);
    address
        .parse()
        .with_context(|| format!("{address} is no address and port"))
}

/// Runs a program until its input ends.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (cpu, listen) = (args.cpu, args.listen);
    if let Some(cpu) = cpu {
        pin(cpu)?;
    }
    raise_file_limit()?;
    match args.program {
        Program::SendLoop => serve(listen, |_| Ok(Box::<SendLoop>::default())),
        Program::WritevB => serve(listen, |_| Ok(Box::<Writev>::default())),
        Program::EpollEcho { answer_bytes } => {
            serve(listen, |_| Ok(Box::new(Echo::new(answer_bytes))))
        }
        Program::LogFloor { log, redis } => relay_in(listen, &log, redis),
        Program::RelayIn { log, redis } => relay_in(listen, &log, Some(redis)),
        Program::RelayOut { redis } => serve(listen, |net| {
            Ok(Box::new(RelayOut::new(net, Redis::connect(redis)?)?))
        }),
        Program::RelayFloor { log, redis, cpu_b } => {
            let words = ["--brokers", &log.brokers, "--topic", &log.topic];
            relay::run(&words.map(str::to_owned), redis, cpu, cpu_b.or(cpu))
        }
        Program::RespFloor {
            side,
            redis,
            senders,
            messages,
            payload,
            channels,
        } => {
            let senders = usize::try_from(senders).context("--senders")?;
            let plan = resp::Plan {
                senders,
                messages,
                payload,
                channels,
            };
            match side {
                Side::Publish => resp::publish(redis, plan),
                Side::Consume => resp::consume(redis, plan),
            }
        }
        Program::PgCopy {
            url,
            rows,
            batch,
            channels,
            payload,
            one_key,
        } => {
            let plan = pg_copy::Plan {
                rows,
                batch,
                channels,
                payload,
                one_key,
            };
            pg_copy::run(&url, plan)
        }
        Program::BareHttp {
            body_bytes,
            content_type,
        } => http::run(listen, body_bytes, &content_type),
        Program::Idle {
            ping_ms,
            read_buffer,
        } => {
            let ping = ping_ms.map(Duration::from_millis);
            idle::run(
                listen,
                &idle::Plan {
                    secret_file: None,
                    ping,
                    read_buffer,
                },
            )
        }
        Program::Accept { token_secret_file } => {
            let secret_file = Some(token_secret_file);
            idle::run(
                listen,
                &idle::Plan {
                    secret_file,
                    ping: None,
                    read_buffer: 512,
                },
            )
        }
    }
}

fn relay_in(listen: SocketAddr, log: &LogArgs, redis: Option<SocketAddr>) -> anyhow::Result<()> {
    serve(listen, |net| {
        let log = Log::connect(&log.brokers, &log.topic)?;
        let redis = redis.map(Redis::connect).transpose()?;
        Ok(Box::new(RelayIn::new(net, log, redis)?))
    })
}
