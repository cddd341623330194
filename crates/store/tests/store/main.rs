//! The store on real Postgres servers.

mod batches;
mod changes;
mod core_tables;
mod direct;
mod marks;
mod offline_data;
mod outages;
mod pages;
mod races;
mod start;
mod support;
mod sweeps;
