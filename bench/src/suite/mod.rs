//! The benchmarks, a file each.

mod b12_slow_readers;
mod b13_ingest;
mod b14_publish;
mod b16_ack_path;
mod b17_store;
mod b18_http;
mod b19_history;
mod b1_big_channel;
mod b24_haproxy;
mod b27_allocations;
mod b2_bursts;
mod b3_many_channels;
mod b4_full_path;
mod b5_latency;
mod b6_idle_memory;
mod b7_memory_after_burst;
mod b8_idle_cpu;
mod b9_connects;
mod bench;
mod fan_out;
mod live;
mod memory;
mod resume;
mod sweep;

pub use b14_publish::subject as publish_subject;
pub use bench::{Bench, Mode};

use crate::results::Row;
use anyhow::Result;

/// What can be measured, in the order of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// One channel with 1,000 sockets, one message at a time.
    B1,
    /// The same in bursts.
    B2,
    /// Memory of idle sockets.
    B6,
    /// Frames in.
    B13,
    /// From a frame to its acknowledgement.
    B16,
    /// The whole way of a message.
    B4,
    /// Its latency.
    B5,
    /// The consumer.
    B17,
    /// The HTTP layer alone.
    B18,
    /// Pages of history.
    B19,
    /// 5,000 sockets in 500 channels.
    B3,
    /// Memory after a burst.
    B7,
    /// CPU of idle sockets.
    B8,
    /// Connects.
    B9,
    /// Slow readers.
    B12,
    /// Publishing to Redis.
    B14,
    /// HAProxy in the path.
    B24,
    /// Allocations.
    B27,
    /// The sweep, by the number of open feeds.
    Sweep,
    /// Thousands that resume at once.
    Resume,
    /// The dashboard, and who listens.
    Live,
}

impl Benchmark {
    /// All of them, in the order of the suite.
    pub const ALL: [Self; 21] = [
        Self::B1,
        Self::B2,
        Self::B6,
        Self::B13,
        Self::B16,
        Self::B4,
        Self::B5,
        Self::B17,
        Self::B18,
        Self::B19,
        Self::B3,
        Self::B7,
        Self::B8,
        Self::B9,
        Self::B12,
        Self::B14,
        Self::B24,
        Self::B27,
        Self::Sweep,
        Self::Resume,
        Self::Live,
    ];

    /// As on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::B6 => "B6",
            Self::B13 => "B13",
            Self::B16 => "B16",
            Self::B4 => "B4",
            Self::B5 => "B5",
            Self::B17 => "B17",
            Self::B18 => "B18",
            Self::B19 => "B19",
            Self::B3 => "B3",
            Self::B7 => "B7",
            Self::B8 => "B8",
            Self::B9 => "B9",
            Self::B12 => "B12",
            Self::B14 => "B14",
            Self::B24 => "B24",
            Self::B27 => "B27",
            Self::Sweep => "sweep",
            Self::Resume => "resume",
            Self::Live => "live",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::B1 => "one channel, 1,000 sockets, one message at a time: CPU a delivery",
            Self::B2 => "the same in bursts of 16 and 64",
            Self::B6 => "9,000 idle sockets with three joins each: memory a socket",
            Self::B13 => "frames of 1 KiB that are answered without the log: CPU a frame",
            Self::B16 => "a frame, the log, the bus, the ok: CPU a message",
            Self::B4 => "the whole way of a message through two edges, by fan-out: CPU a delivery",
            Self::B5 => "latency at half of what the bare relay can do",
            Self::B17 => "from the log into the store: CPU a row, rows a second, commits",
            Self::B18 => "the HTTP layer alone: CPU a request",
            Self::B19 => "pages of history, the newest and deep ones: CPU a page",
            Self::B3 => "5,000 sockets in 500 channels, open loop: CPU a delivery",
            Self::B7 => "memory after a burst of 64 KB to each socket",
            Self::B8 => "9,000 idle sockets, a ping every 25 s: CPU",
            Self::B9 => "connect, upgrade, token, join: CPU a connect",
            Self::B12 => "readers of 1 KB/s in a channel of 1 MB/s: others' latency, memory",
            Self::B14 => "publishing to Redis from many tasks: CPU of Redis and of the client",
            Self::B24 => "HAProxy in the path: its own CPU a delivery",
            Self::B27 => "allocations a delivery and a message",
            Self::Sweep => "the sweep with 10, 10,000 and 100,000 open feeds, idle and busy",
            Self::Resume => "5,000 sockets resume at once: questions to the store, time",
            Self::Live => {
                "the dashboard and who listens, on four edges: time to the picture, quiet"
            }
        }
    }

    /// Finds it by its id, whatever the case.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.id().eq_ignore_ascii_case(id))
    }

    /// Measures.
    ///
    /// # Errors
    /// When something breaks, or a message was lost, doubled or out of order.
    pub async fn run(self, bench: &mut Bench) -> Result<Vec<Row>> {
        match self {
            Self::B1 => Box::pin(b1_big_channel::run(bench)).await,
            Self::B2 => Box::pin(b2_bursts::run(bench)).await,
            Self::B6 => Box::pin(b6_idle_memory::run(bench)).await,
            Self::B13 => Box::pin(b13_ingest::run(bench)).await,
            Self::B16 => Box::pin(b16_ack_path::run(bench)).await,
            Self::B4 => Box::pin(b4_full_path::run(bench)).await,
            Self::B5 => Box::pin(b5_latency::run(bench)).await,
            Self::B17 => Box::pin(b17_store::run(bench)).await,
            Self::B18 => Box::pin(b18_http::run(bench)).await,
            Self::B19 => Box::pin(b19_history::run(bench)).await,
            Self::B3 => Box::pin(b3_many_channels::run(bench)).await,
            Self::B7 => Box::pin(b7_memory_after_burst::run(bench)).await,
            Self::B8 => Box::pin(b8_idle_cpu::run(bench)).await,
            Self::B9 => Box::pin(b9_connects::run(bench)).await,
            Self::B12 => Box::pin(b12_slow_readers::run(bench)).await,
            Self::B14 => Box::pin(b14_publish::run(bench)).await,
            Self::B24 => Box::pin(b24_haproxy::run(bench)).await,
            Self::B27 => Box::pin(b27_allocations::run(bench)).await,
            Self::Sweep => Box::pin(sweep::run(bench)).await,
            Self::Resume => Box::pin(resume::run(bench)).await,
            Self::Live => Box::pin(live::run(bench)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_is_found_by_its_id() {
        for one in Benchmark::ALL {
            assert_eq!(Benchmark::named(&one.id().to_lowercase()), Some(one));
        }
        assert_eq!(Benchmark::named("B99"), None);
    }
}
