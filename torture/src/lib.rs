//! The torture suite: runs the whole system behind fault proxies, keeps people talking while
//! faults come and go, records what everybody saw, and has it judged.
//!
//! It promises a history in which nothing that was seen is missing, made with one clock, and a
//! verdict by [`hubbub_checker`] alone: nothing here decides what is right. A run can be judged
//! again from its directory, and its faults repeated. It does not promise that two runs of one
//! seed interleave alike: the schedule is the same, the machine is not.

pub mod attempts;
pub mod board;
pub mod cast;
pub mod churn;
pub mod cli;
pub mod device;
pub mod direct;
pub mod facts;
pub mod files;
pub mod habits;
pub mod http_writer;
pub mod judge;
pub mod ledger;
pub mod logs;
pub mod lookers;
pub mod message;
pub mod mutants;
pub mod pager;
pub mod play;
pub mod profile;
pub mod progress;
pub mod quiet;
pub mod readers;
pub mod reads;
pub mod recorder;
pub mod run;
pub mod sampler;
pub mod setup;
pub mod system;
pub mod visits;
pub mod wire;
pub mod workload;
pub mod writer;
pub mod zipf;
