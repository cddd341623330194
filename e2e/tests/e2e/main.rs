//! Everything at once, through HAProxy: what the README promises, on real servers that are
//! killed, frozen and brought back.

mod chat;
mod consumer;
mod dashboard;
mod edge_crash;
mod kafka_down;
mod people;
mod readme;
mod redis_loss;
mod shard_down;
mod slow;
mod thousand;
mod web_chat;
mod web_dashboard;
mod web_modules;
mod web_page;
mod web_sends;
