use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use super::{
    echo::Echo, log::Log, redis::Redis, relay_in::RelayIn, relay_out::RelayOut,
    send_loop::SendLoop, server::serve, writev::Writev,
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
    },
    /// One pod of the bare relay: client, log, Redis, client.
    RelayFloor {
        #[command(subcommand)]
        role: Role,
    },
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

#[derive(Debug, Subcommand)]
enum Role {
    /// Frame in, log, acknowledgement, PUBLISH and `ok` out.
    In {
        #[command(flatten)]
        log: LogArgs,
        /// `host:port` of Redis.
        #[arg(long)]
        redis: SocketAddr,
    },
    /// SUBSCRIBE, and one writev per socket and read of Redis.
    Out {
        /// `host:port` of Redis.
        #[arg(long)]
        redis: SocketAddr,
    },
}

/// Runs a program until it is done, or for ever.
pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(cpu) = args.cpu {
        pin(cpu)?;
    }
    raise_file_limit()?;
    match args.program {
        Program::SendLoop => serve(args.listen, |_| Ok(Box::<SendLoop>::default())),
        Program::WritevB => serve(args.listen, |_| Ok(Box::<Writev>::default())),
        Program::EpollEcho { answer_bytes } => {
            serve(args.listen, |_| Ok(Box::new(Echo::new(answer_bytes))))
        }
        Program::LogFloor { log } => relay_in(args.listen, &log, None),
        Program::RelayFloor {
            role: Role::In { log, redis },
        } => relay_in(args.listen, &log, Some(redis)),
        Program::RelayFloor {
            role: Role::Out { redis },
        } => serve(args.listen, |net| {
            Ok(Box::new(RelayOut::new(net, Redis::connect(redis)?)?))
        }),
    }
}

fn relay_in(listen: SocketAddr, log: &LogArgs, redis: Option<SocketAddr>) -> anyhow::Result<()> {
    serve(listen, |net| {
        let log = Log::connect(&log.brokers, &log.topic)?;
        let redis = redis.map(Redis::connect).transpose()?;
        Ok(Box::new(RelayIn::new(net, log, redis)?))
    })
}
