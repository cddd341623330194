//! `hubbub`, the command line client of Hubbub: chat, history, people, what is live in Redis, and
//! what an operator needs. Everything but `main` is here, so that tests can call it.

mod admin;
mod args;
mod changes;
mod channels;
mod chat;
mod connect;
mod failure;
mod history;
mod import;
mod interactive;
mod members;
mod names;
mod people;
mod pipe;
mod pubsub;
mod receive;
mod room;
mod send;
mod show;
mod table;
mod tail;
mod token;

use std::process::ExitCode;

pub use args::Cli;
use args::Command;
use connect::Context;
pub use failure::report;

/// Does what the command line says. `Err` is for people ([`report`] prints it).
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = Context::new(cli.connect);
    match cli.command {
        Command::Token(args) => token::run(&context, &args),
        Command::Chat(args) => chat::run(&context, args).await,
        Command::Tail(args) => tail::run(&context, &args).await,
        Command::Send(args) => send::run(&context, &args).await,
        Command::History(args) => history::run(&context, &args).await,
        Command::Channels(args) => channels::list(&context, &args).await,
        Command::Create(args) => channels::create(&context, &args).await,
        Command::Members(args) => members::list(&context, &args).await,
        Command::Join(args) => members::join(&context, &args).await,
        Command::Leave(args) => members::leave(&context, &args).await,
        Command::Add(args) => members::add(&context, &args).await,
        Command::Remove(args) => members::remove(&context, &args).await,
        Command::Who(args) => people::who(&context, &args).await,
        Command::Dm(args) => people::dm(&context, args).await,
        Command::Edit(args) => changes::edit(&context, &args).await,
        Command::Delete(args) => changes::delete(&context, &args).await,
        Command::React(args) => changes::react(&context, &args).await,
        Command::Thread(args) => changes::thread(&context, &args).await,
        Command::Unread(args) => people::unread(&context, &args).await,
        Command::Presence(args) => people::presence(&context, &args).await,
        Command::Import(args) => Box::pin(import::run(&args)).await,
        Command::Pubsub(args) => pubsub::run(&args).await,
        Command::Admin(args) => admin::run(&args).await,
    }
}
