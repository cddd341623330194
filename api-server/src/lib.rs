//! The HTTP API of Hubbub: channels, members, users, history, sending and changing, threads,
//! receipts, who is here, and the live dashboard; and the pages in the browser that show it.
//!
//! Promises: every error is the same JSON object with the right status; an absent channel and a
//! foreign one are told apart by nothing; membership is read from the primary after the history it
//! guards, so that a removal that was answered holds for every page (contract P8); a database that
//! is away fails only the requests that need it (P9); every wait has a deadline and every table a
//! bound (P10). It holds no sockets and delivers nothing: that is the edge.

mod auth;
mod bus;
mod call;
mod changes;
mod channels;
mod config;
mod context;
mod dashboard;
mod direct;
mod events;
mod fields;
mod members;
mod messages;
mod metrics;
mod openapi;
mod origin;
mod path;
mod query;
mod receipts;
mod reply;
mod route;
mod routes;
mod server;
mod sign_in;
mod startup;
mod threads;
mod ui;
mod users;
mod waiters;
mod who;

pub use config::Config;
pub use server::{Api, BindError};
pub use startup::StartError;
