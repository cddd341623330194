//! The store on real Postgres servers.

mod batches;
mod core_tables;
mod offline_data;
mod outages;
mod pages;
mod races;
mod start;
mod support;
mod sweeps;
