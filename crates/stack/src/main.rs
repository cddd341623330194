//! `hubbub-stack`: what `./dev` runs after it has installed and built everything.

mod dev;

use clap::{Parser, Subcommand};
use dev::{down, hubbub, logs, status, test_servers, up};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs Hubbub with all its servers as local processes.
#[derive(Debug, Parser)]
#[command(name = "dev", bin_name = "./dev", version, max_term_width = 100)]
struct Arguments {
    /// Data, logs and configuration of the running system.
    #[arg(long, env = "HUBBUB_DIR", default_value = ".hubbub", global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything and stay in the foreground; Ctrl-C stops it in order.
    Up(up::UpArgs),
    /// Stop what `up` started.
    Down,
    /// Say what runs. Exit code 0: all of it is ready; 1: some is not; 3: nothing runs.
    Status(status::StatusArgs),
    /// Show the end of the logs.
    Logs(logs::LogsArgs),
    /// Run the command line client against the running system.
    #[command(disable_help_flag = true)]
    Hubbub(hubbub::HubbubArgs),
    /// Run a command beside throw-away servers for the tests.
    #[command(hide = true)]
    WithTestServers(test_servers::TestServersArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    raise_descriptor_limit();
    let Arguments { dir, command } = Arguments::parse();
    let done = match command {
        Command::Up(args) => up::run(&dir, args).await,
        Command::Down => down::run(&dir).await,
        Command::Status(args) => status::run(&dir, args).await,
        Command::Logs(args) => logs::run(&dir, args).await,
        Command::Hubbub(args) => hubbub::run(&dir, args),
        Command::WithTestServers(args) => test_servers::run(args).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("dev: {error:#}");
        ExitCode::FAILURE
    })
}

/// Every socket through HAProxy costs two descriptors there. Children inherit the limit.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the lower limit everything works, only with fewer sockets.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}
