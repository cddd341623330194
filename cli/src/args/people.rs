//! The command line of what people do beside talking in a channel, and of the import.
use std::path::PathBuf;

use clap::Args;
use hubbub_protocol::Seq;

use super::{ServerArgs, parse_seq};
use crate::import::Subjects;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub who Maths           every socket that listens to Maths now, on every pod
  hubbub who Maths --json
Exit code 1: some pod did not answer in time; what the others said is printed.")]
pub(crate) struct WhoArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub dm Mary                     talk with Mary
  hubbub dm Mary 'are you there?'    say one thing
  hubbub dm U000000002 --id          print the channel's id")]
pub(crate) struct DmArgs {
    /// User id (U000000002), or the name of somebody you share a channel with
    pub(crate) user: String,
    /// One message; without it you talk
    pub(crate) text: Vec<String>,
    /// Print the id of the direct channel and do nothing else
    #[arg(long, conflicts_with = "text")]
    pub(crate) id: bool,
    /// Print the server's whole answer, or, in a pipe, received messages as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The message of a channel.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Channel id or name
    pub(crate) channel: String,
    /// Seq of the message, as history shows it
    #[arg(value_parser = parse_seq)]
    pub(crate) seq: Seq,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubbub edit Maths 12 'what is 6 times 8?'
Authors edit their own messages, admins of the channel everybody's.")]
pub(crate) struct EditArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What it says from now on; several words are joined by spaces
    #[arg(required = true)]
    pub(crate) text: Vec<String>,
    /// Print the server's whole answer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Print the server's whole answer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub react Maths 12 +1
  hubbub react Maths 12 +1 --remove")]
pub(crate) struct ReactArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// An emoji or its name
    pub(crate) reaction: String,
    /// Take it back
    #[arg(long)]
    pub(crate) remove: bool,
    /// Print the server's whole answer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub thread Maths 12             the message and every reply
  hubbub thread Maths 12 'I am in'   one more")]
pub(crate) struct ThreadArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// A reply; without it the thread is printed
    pub(crate) text: Vec<String>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub unread             the channels with something unread
  hubbub unread --all       the others, too")]
pub(crate) struct UnreadArgs {
    /// Channels without anything unread, too
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubbub presence Mary John      active, away or offline, over all their devices
  hubbub presence Mary --watch   and every change from now on (Ctrl-C ends it)")]
pub(crate) struct PresenceArgs {
    /// User ids, or names of people you share a channel with
    #[arg(required = true)]
    pub(crate) users: Vec<String>,
    /// Print changes as they come
    #[arg(long)]
    pub(crate) watch: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Users, channels, members, messages with their original times, edits, reactions and threads come
in through the log. Only into new channels; run again after an interruption it goes on where it
was. Like `hubbub admin` it needs the addresses of Kafka and the databases, and no token.

Examples:
  hubbub import slack-export.zip --dry-run
  hubbub import slack-export.zip --owner Mary
  hubbub import slack-export.zip --owner Mary --only general,random --prefix slack-")]
pub(crate) struct ImportArgs {
    /// The zip file that Slack's export gave
    pub(crate) file: PathBuf,
    /// Subject of the user who will be the admin of the new channels
    #[arg(long, value_name = "SUBJECT", required_unless_present = "dry_run")]
    pub(crate) owner: Option<String>,
    /// What is in the export, and what of it cannot be carried; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What a token says to be somebody of the export
    #[arg(long, value_enum, default_value = "email")]
    pub(crate) subjects: Subjects,
    /// These channels alone, by Slack's name or id, with commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Not these channels
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) except: Vec<String>,
    /// Goes before the name of each channel
    #[arg(long, default_value = "")]
    pub(crate) prefix: String,
    /// Records a second, at most: what is left of the log and the store is for people who talk
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
}
