use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hubbub_protocol::{DeviceId, Seq};

mod people;

pub(crate) use people::{
    DeleteArgs, DmArgs, EditArgs, ImportArgs, PresenceArgs, ReactArgs, TargetArgs, ThreadArgs,
    UnreadArgs, WhoArgs,
};

/// Chat on Hubbub from a terminal, look at what is live, set a deployment up.
///
/// Channels are named by id (C000000005) or by name (Maths).
#[derive(Debug, Parser)]
#[command(
    name = "hubbub",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  hubbub chat Maths --as John           talk in Maths as John (development: needs the JWT secret)
  echo 'hi' | hubbub chat Maths         each line of stdin is a message; waits for the acks
  hubbub history Maths --limit 20       the newest 20
  hubbub tail Maths --since 0 --json    everything from the start, then live, one JSON per line
  hubbub who Maths                      who is here, on every edge
  hubbub dm Mary 'are you there?'       a direct message; without a text, a conversation
  hubbub unread                         what you have not read
  hubbub edit Maths 12 'better so'      change message 12; delete, react and thread likewise
  hubbub pubsub numsub                  which channels are live in Redis, on how many pods
  hubbub admin status                   how far the store has read the log

Who you are: HUBBUB_TOKEN, or --as NAME with HUBBUB_JWT_SECRET_FILE (development).
Where it is: HUBBUB_URL, http://127.0.0.1:8080 if unset.
Exit codes: 0 done, 1 failed, 64 the command line or a setting is wrong."
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Who and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Address of the front door; the WebSocket's address is made from it
    #[arg(
        long,
        env = "HUBBUB_URL",
        default_value = "http://127.0.0.1:8080",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) url: String,

    /// Bearer token (prefer the variable: other users of this machine can see flags)
    #[arg(
        long,
        env = "HUBBUB_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) token: Option<String>,

    /// Be this user: mints a token with the secret of HUBBUB_JWT_SECRET_FILE (development)
    #[arg(
        long = "as",
        value_name = "SUBJECT",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) subject: Option<String>,

    /// Name of this device; a random one without it
    #[arg(
        long,
        env = "HUBBUB_DEVICE",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) device: Option<DeviceId>,

    /// File with the secret that signs tokens (HS256), at least 32 bytes
    #[arg(
        long,
        env = "HUBBUB_JWT_SECRET_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) jwt_secret_file: Option<PathBuf>,

    /// Issuer of minted tokens
    #[arg(
        long,
        env = "HUBBUB_JWT_ISSUER",
        default_value = "hubbub",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) jwt_issuer: String,

    /// Audience of minted tokens
    #[arg(
        long,
        env = "HUBBUB_JWT_AUDIENCE",
        default_value = "hubbub",
        global = true,
        help_heading = "Connection"
    )]
    pub(crate) jwt_audience: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mint a token for development and print it
    Token(TokenArgs),
    /// Talk in a channel: with a prompt on a terminal, line by line in a pipe
    Chat(ChatArgs),
    /// Print what is said in a channel as it comes
    Tail(TailArgs),
    /// Send one message and print its seq
    Send(SendArgs),
    /// Print stored messages
    History(HistoryArgs),
    /// List your channels and the public ones
    Channels(ListArgs),
    /// Create a channel; you become its admin
    Create(CreateArgs),
    /// List the members of a channel
    Members(ChannelArgs),
    /// Become a member of a public channel
    Join(ChannelArgs),
    /// Stop being a member
    Leave(ChannelArgs),
    /// Make somebody a member (in a private channel: admins only)
    Add(MemberArgs),
    /// End somebody's membership (admins only); when it returns, nothing more reaches them
    Remove(MemberArgs),
    /// List the sockets that listen to a channel now, on every pod
    Who(WhoArgs),
    /// Talk with one person, or say one thing to them
    Dm(DmArgs),
    /// Give a message another text
    Edit(EditArgs),
    /// Delete a message
    Delete(DeleteArgs),
    /// Give a message a reaction, or take it back
    React(ReactArgs),
    /// Print the thread of a message, or answer in it
    Thread(ThreadArgs),
    /// List your channels with how much of them you have not read
    Unread(UnreadArgs),
    /// Whether people are there
    Presence(PresenceArgs),
    /// Bring the channels of a Slack export in (operators)
    Import(ImportArgs),
    /// Look at what is live in Redis now
    Pubsub(PubsubArgs),
    /// Set a deployment up and see how it stands
    Admin(AdminArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub token John --jwt-secret-file .hubbub/jwt.secret
  export HUBBUB_TOKEN=$(hubbub token John --ttl 86400)
  curl -H \"Authorization: Bearer $(hubbub token John)\" http://127.0.0.1:8080/users/me")]
pub(crate) struct TokenArgs {
    /// Whose token: the user's subject, such as John (--device names the device in it)
    #[arg(value_name = "SUBJECT")]
    pub(crate) name: String,
    /// Seconds until it expires
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(i64).range(1..=31_536_000))]
    pub(crate) ttl: i64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal: type a line and press Enter; /quit or Ctrl-D leaves, /who shows who is here, /help
what else there is. Messages have their numbers behind them: /edit 12 …, /react 12 +1, /reply 12 ….
In a pipe: each line of stdin is a message, received messages go to stdout, and the command
ends when stdin has ended and every message is acknowledged.

Examples:
  hubbub chat Maths --as Mary
  printf 'one\\ntwo\\n' | hubbub chat Maths --as Mary
  tail -f build.log | hubbub chat builds --json")]
pub(crate) struct ChatArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// How many stored messages to show at the start
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=200))]
    pub(crate) history: u16,
    /// In a pipe: print received messages as JSON, one per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub tail Maths                     from now on
  hubbub tail Maths --since 0           everything, then what comes
  hubbub tail Maths --json --count 10   ten records as JSON, then exit")]
pub(crate) struct TailArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// Begin after this seq (0: from the start)
    #[arg(long, value_parser = parse_seq)]
    pub(crate) since: Option<Seq>,
    /// Strictly by seq, at the price of a little delay
    #[arg(long)]
    pub(crate) ordered: bool,
    /// Exit after so many records
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub send Maths 'what is 6 times 7?'
  hubbub send C000000005 hello there --json
Exit code 0: the message is durable. 1: the error says whether it may be in the log.")]
pub(crate) struct SendArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// The message; several words are joined by spaces
    #[arg(required = true)]
    pub(crate) text: Vec<String>,
    /// Print the server's whole answer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub history Maths                     the newest page
  hubbub history Maths --before 120        the page before seq 120
  hubbub history Maths --around 120 --limit 5
  hubbub history Maths --all --json        everything, oldest first")]
pub(crate) struct HistoryArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// Only messages below this seq
    #[arg(long, value_parser = parse_seq, conflicts_with_all = ["after", "around"])]
    pub(crate) before: Option<Seq>,
    /// Only messages above this seq
    #[arg(long, value_parser = parse_seq, conflicts_with = "around")]
    pub(crate) after: Option<Seq>,
    /// Messages on both sides of this seq
    #[arg(long, value_parser = parse_seq, conflicts_with = "all")]
    pub(crate) around: Option<Seq>,
    /// With each edited message what it said before
    #[arg(long)]
    pub(crate) versions: bool,
    /// Every kind of record: edits, deletions and reactions too
    #[arg(long)]
    pub(crate) records: bool,
    /// Messages on a page
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) limit: u16,
    /// All pages, oldest first
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name: 1 to 80 bytes, unique
    pub(crate) name: String,
    /// Only its members see it, and only admins add members
    #[arg(long)]
    pub(crate) private: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChannelArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// User id (U000000002), or the name of somebody you share a channel with
    pub(crate) user: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub pubsub channels                 every channel with a subscriber
  hubbub pubsub channels 'channel-*'     chat channels only
  hubbub pubsub numsub channel-C000000005
  hubbub pubsub tail 'channel-*'         what passes, as it passes (Ctrl-C ends it)
A pod subscribes to channel-<id> only while one of its sockets listens, so numsub counts pods.")]
pub(crate) struct PubsubArgs {
    /// Address of Redis
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        global = true,
        hide_env_values = true
    )]
    pub(crate) redis_url: String,
    #[command(subcommand)]
    pub(crate) command: PubsubCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PubsubCommand {
    /// Names of the channels that somebody subscribes to
    Channels {
        /// A Redis pattern
        #[arg(default_value = "*")]
        pattern: String,
    },
    /// How many subscribers a channel has; all live channels without a name
    Numsub {
        /// Redis channels, such as channel-C000000005, or channel ids
        channels: Vec<String>,
    },
    /// Print what is published
    Tail {
        /// A Redis pattern
        #[arg(default_value = "*")]
        pattern: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// The servers of a deployment.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Kafka, `host:port` with commas
    #[arg(
        long,
        env = "KAFKA_BROKERS",
        default_value = "127.0.0.1:9092",
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) kafka_brokers: String,

    /// Core database (users, channels, memberships, maps)
    #[arg(
        long,
        env = "CORE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) core_database_url: Option<String>,

    /// Shards (messages), in their order, with commas
    #[arg(
        long,
        env = "SHARD_DATABASE_URLS",
        value_name = "URLS",
        value_delimiter = ',',
        hide_env_values = true,
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) shard_database_urls: Vec<String>,

    /// Kafka topic of the messages
    #[arg(
        long,
        env = "HUBBUB_TOPIC",
        default_value = hubbub_protocol::TOPIC_MESSAGES,
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) topic: String,

    /// Partitions of the topic; fixed for ever when it is created
    #[arg(
        long,
        env = "HUBBUB_PARTITIONS",
        default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=4_096),
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) partitions: u32,

    /// Replicas of each partition; 3 in production
    #[arg(
        long,
        env = "HUBBUB_REPLICATION",
        default_value_t = 1,
        value_parser = clap::value_parser!(i32).range(1..=16),
        global = true,
        help_heading = "Servers"
    )]
    pub(crate) replication: i32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Create topic, databases, tables and maps; changes nothing that is there already
    ///
    /// Waits up to 60 s for servers that are starting. May be run again at any time.
    #[command(after_help = "\
Example:
  CORE_DATABASE_URL=postgres://localhost:5432/hubbub \\
  SHARD_DATABASE_URLS=postgres://localhost:5433/hubbub,postgres://localhost:5434/hubbub \\
  hubbub admin init --seed")]
    Init {
        /// Also create ten users (John, Mary, …) and the channels general and Maths with them
        #[arg(long)]
        seed: bool,
    },
    /// Show how far each partition of the log is stored, and that nothing is missing
    Status {
        /// Show partitions without records too
        #[arg(long)]
        all: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Continue on a new, empty log after the old one was lost
    ///
    /// Creates the topic and raises `base`, so that every seq of the new log lies above every
    /// stored one. What was acknowledged but not yet stored in the old log is lost. Stop edge
    /// servers, API servers and consumers first.
    NewLog {
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn parse_seq(text: &str) -> Result<Seq, String> {
    match text.parse() {
        Ok(number) if Seq(number) <= Seq::MAX => Ok(Seq(number)),
        _ => Err(format!("a seq is an integer from 0 to {}", Seq::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn connection_flags_go_anywhere() {
        for line in [
            "hubbub --as Mary chat Maths",
            "hubbub chat --as Mary Maths",
            "hubbub chat Maths --as Mary",
        ] {
            let cli = parse(line).expect(line);
            assert_eq!(cli.connect.subject.as_deref(), Some("Mary"), "{line}");
            assert!(matches!(cli.command, Command::Chat(args) if args.channel == "Maths"));
        }
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for (line, kind) in [
            (
                "hubbub history M --before 1 --after 2",
                ErrorKind::ArgumentConflict,
            ),
            (
                "hubbub history M --around 1 --all",
                ErrorKind::ArgumentConflict,
            ),
            (
                "hubbub history M --before 9007199254740992",
                ErrorKind::ValueValidation,
            ),
            ("hubbub history M --before -1", ErrorKind::UnknownArgument),
            ("hubbub history M --limit 0", ErrorKind::ValueValidation),
            ("hubbub history M --limit 201", ErrorKind::ValueValidation),
            ("hubbub send M", ErrorKind::MissingRequiredArgument),
            ("hubbub edit M 12", ErrorKind::MissingRequiredArgument),
            ("hubbub edit M x y", ErrorKind::ValueValidation),
            ("hubbub dm Mary hi --id", ErrorKind::ArgumentConflict),
            ("hubbub import x.zip", ErrorKind::MissingRequiredArgument),
            (
                "hubbub import x.zip --owner M --rate 0",
                ErrorKind::ValueValidation,
            ),
            ("hubbub token John --ttl 0", ErrorKind::ValueValidation),
            ("hubbub chat M --device a/b", ErrorKind::ValueValidation),
            ("hubbub dance", ErrorKind::InvalidSubcommand),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.kind(), kind, "{line}: {error}");
        }
    }

    #[test]
    fn shards_are_separated_by_commas() {
        let cli = parse("hubbub admin status --shard-database-urls a,b").expect("valid");
        let Command::Admin(admin) = cli.command else {
            panic!("admin is expected");
        };
        assert_eq!(admin.servers.shard_database_urls, ["a", "b"]);
    }

    #[test]
    fn every_command_teaches() {
        for command in Cli::command().get_subcommands() {
            let about = command.get_about().map(ToString::to_string);
            assert!(
                about.is_some_and(|a| !a.is_empty()),
                "{}",
                command.get_name()
            );
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
        }
    }
}
