//! `hubbub import`: a Slack export becomes channels here, through the log.
//!
//! It writes to the log and the core database with an operator's addresses, as `hubbub admin`
//! does, and not through the HTTP API: whoever may write in other people's names has power over
//! the whole workspace, and there is no user with that power, hence no token for it to be stolen.
//! The addresses are that power already. What it appends is read, stored and served like any other
//! record; nothing of it is published on the bus, so that no screen shows it live.
//!
//! Every id is a UUIDv5 of Slack's channel and `ts`, and before anything is written the channel is
//! read back from the store: so an import that was interrupted, or whose log did not acknowledge,
//! goes on where it was, and the store's unique key keeps single what was sent twice.

mod export;
mod people;
mod plan;
mod report;
mod room;
mod slack;
mod survey;
mod text;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use hubbub_protocol::{
    ChannelId, DeviceId, MarkRecord, MessageId, ReactionChange, Receipt, Record, UserId,
    http::{Channel, ChannelKind, Role},
};
use hubbub_store::Store;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{admin::servers::Servers, args::ImportArgs, failure::usage, show::line};
use export::Export;
pub(crate) use people::Subjects;
use plan::{Item, What};
use report::Losses;
use room::{Known, Planned};
use survey::{Plan, RoomPlan};
use writer::{Wave, Writer};

/// Messages that are on their way to the log at once.
const WAVE: usize = 128;
/// How often a channel is read back and completed before that is given up: once is what a whole
/// run needs, and each time that the log does not acknowledge takes one more.
const ROUNDS: u32 = 8;
/// Pause before the next of those.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// The device that has read everything that is older than the import.
const DEVICE: &str = "import";

pub(crate) async fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let mut export = Export::open(&args.file)?;
    let plan = survey::survey(&mut export, args)?;
    for text in plan.lines(&args.file) {
        line(&text)?;
    }
    if args.dry_run {
        line("nothing was written (--dry-run)")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(owner) = &args.owner else {
        return Err(usage(
            "--owner names the user who will be the admin of the new channels",
        ));
    };
    let mut import = Import::start(args, owner, &plan).await?;
    for room in &plan.rooms {
        import.room(&mut export, &plan, room).await?;
    }
    import.bar.finish_and_clear();
    line(&format!(
        "done: {} channels with {} records, everything read back",
        plan.rooms.len(),
        plan.total.records()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// An import under way.
struct Import {
    store: Store,
    log: hubbub_log::Config,
    writer: Writer,
    marks: Writer,
    owner: UserId,
    users: HashMap<String, UserId>,
    bar: ProgressBar,
}

impl Import {
    async fn start(args: &ImportArgs, owner: &str, plan: &Plan) -> anyhow::Result<Self> {
        let servers = Servers::new(&args.servers)?;
        let store = servers.open_store().await?;
        let identity = store.log_identity().clone();
        let log = hubbub_log::Config {
            topic: identity.topic.clone(),
            partitions: identity.partitions,
            base: identity.base,
            client_id: "hubbub-import".to_owned(),
            ..servers.log.clone()
        };
        let user = store
            .user_by_subject(owner)
            .await
            .context("look for the owner")?;
        let user = user.with_context(|| {
            format!("nobody has the subject {owner}: --owner is a user who is here already")
        })?;
        let mut taken = Vec::new();
        for room in &plan.rooms {
            if !room::is_free(&store, &room.name, user.id).await? {
                taken.push(room.name.as_str());
            }
        }
        if !taken.is_empty() {
            return Err(room::taken(&taken.join(", ")));
        }
        let users = people::provision(&store, &plan.people).await?;
        let bar = ProgressBar::new(plan.total.records());
        let style = "{msg:>20.20} [{bar:30}] {pos}/{len} {per_sec} {eta} left";
        let style = ProgressStyle::with_template(style).context("draw a progress bar")?;
        bar.set_style(style.progress_chars("=> "));
        Ok(Self {
            writer: Writer::start(&log, args.rate).await?,
            marks: Writer::start(&log.marks(), args.rate).await?,
            store,
            log,
            owner: user.id,
            users,
            bar,
        })
    }

    /// Brings one channel in, or what is missing of it.
    async fn room(
        &mut self,
        export: &mut Export,
        plan: &Plan,
        room: &RoomPlan,
    ) -> anyhow::Result<()> {
        self.bar.set_message(room.name.clone());
        let done = self.bar.position();
        let channel = room::open(&self.store, &room.name, room.room.private, self.owner).await?;
        let planned = room.ids.iter();
        let planned = planned.map(|(id, author)| Ok((*id, self.user(author)?)));
        let planned = Planned(planned.collect::<anyhow::Result<_>>()?);
        let mut rounds = 0;
        let known = loop {
            let mut known = room::read_back(&self.store, &self.log, channel.id, &planned).await?;
            if rounds == 0 && !self.is_ours(room, channel.id, &known, &planned).await? {
                return Err(room::taken(&room.name));
            }
            let there = planned.there(&known);
            self.bar.set_position(done + there as u64);
            if there == planned.0.len() {
                break known;
            }
            rounds += 1;
            anyhow::ensure!(
                rounds <= ROUNDS,
                "{} of {} records of {} are not there after {ROUNDS} rounds",
                planned.0.len() - there,
                planned.0.len(),
                room.name
            );
            if let Wave::Unsure(reason) = self
                .write(export, plan, room, (channel.id, &planned), &mut known)
                .await?
            {
                self.bar.println(format!(
                    "the log did not acknowledge ({reason}): reading back"
                ));
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        };
        if rounds > 0 || !self.is_finished(channel.id).await? {
            self.members(room, channel.id, &known).await?;
        }
        self.publish(room, &channel).await
    }

    async fn is_ours(
        &self,
        room: &RoomPlan,
        channel: ChannelId,
        known: &Known,
        planned: &Planned,
    ) -> anyhow::Result<bool> {
        let members = room.room.slack.members.iter();
        let members = members.map(|member| self.user(member));
        let members = members.collect::<anyhow::Result<HashSet<_>>>()?;
        room::is_ours(&self.store, channel, known, planned, members, self.owner).await
    }

    /// Appends what is not known, in the order of time; what follows a message goes right after
    /// the wave that has it, since it needs its seq.
    async fn write(
        &mut self,
        export: &mut Export,
        plan: &Plan,
        room: &RoomPlan,
        at: (ChannelId, &Planned),
        known: &mut Known,
    ) -> anyhow::Result<Wave> {
        let planner = room.planner(plan);
        for path in &room.room.days {
            let day = export.day(path)?;
            let items = planner.items(&day.messages, &mut Losses::default());
            let mut rest = items.as_slice();
            while !rest.is_empty() {
                let (wave, after) = rest.split_at(wave(rest));
                rest = after;
                let messages = self.messages(at, wave, known)?;
                if let unsure @ Wave::Unsure(_) =
                    self.writer.wave(messages, known, &self.bar).await?
                {
                    return Ok(unsure);
                }
                let then = self.then(at, wave, known)?;
                if let unsure @ Wave::Unsure(_) = self.writer.wave(then, known, &self.bar).await? {
                    return Ok(unsure);
                }
            }
        }
        Ok(Wave::Done)
    }

    fn messages(
        &self,
        (channel, planned): (ChannelId, &Planned),
        items: &[Item],
        known: &Known,
    ) -> anyhow::Result<Vec<Record>> {
        let record = |item: &Item| {
            let root = item.thread.and_then(|root| planned.key(root));
            let thread = root.and_then(|root| known.seq(root));
            let (user, text) = (self.user(&item.author)?, item.text.clone());
            let posted_ms = item.posted_ms;
            Ok(Record::imported(
                channel, user, item.id, text, thread, posted_ms,
            ))
        };
        let mut seen = HashSet::new();
        let mut new = |id| {
            let key = planned.key(id);
            key.is_some_and(|key| known.seq(key).is_none() && seen.insert(key))
        };
        let items = items.iter().filter(|item| new(item.id));
        items.map(record).collect()
    }

    fn then(
        &self,
        (channel, planned): (ChannelId, &Planned),
        items: &[Item],
        known: &Known,
    ) -> anyhow::Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::new();
        let mut seen = HashSet::new();
        for item in items {
            let target = planned.key(item.id).and_then(|key| known.seq(key));
            let target = target.context("a wave that was acknowledged is known")?;
            for then in &item.then {
                let key = planned.key(then.id);
                if !key.is_some_and(|key| known.seq(key).is_none() && seen.insert(key)) {
                    continue;
                }
                let user = self.user(&then.author)?;
                records.push(match &then.what {
                    What::Edit(text) => {
                        Record::edit(channel, user, then.id, target, text.clone(), false)
                    }
                    What::Delete => Record::delete(channel, user, then.id, target, false),
                    What::React(reaction) => {
                        let (reaction, added) = (reaction.clone(), ReactionChange::Added);
                        Record::reaction(channel, user, then.id, target, reaction, added)
                    }
                });
            }
        }
        Ok(records)
    }

    fn user(&self, key: &str) -> anyhow::Result<UserId> {
        let user = self.users.get(key).copied();
        user.with_context(|| format!("{key} was not among the people of the survey"))
    }

    /// Adds the members, who have read everything: it is older than their first look.
    async fn members(
        &mut self,
        room: &RoomPlan,
        channel: ChannelId,
        known: &Known,
    ) -> anyhow::Result<()> {
        let head = known.head();
        let device = device()?;
        let mut marks = Vec::with_capacity(room.room.slack.members.len() + 1);
        for member in &room.room.slack.members {
            let user = self.user(member)?;
            let role = if *member == room.room.slack.creator {
                Role::Admin
            } else {
                Role::Member
            };
            let added = self.store.add_member(channel, user, role).await;
            added.with_context(|| format!("add {member} to {}", room.name))?;
            marks.push(user);
        }
        if head.0 == 0 {
            return Ok(());
        }
        // The last: see `is_finished`.
        marks.push(self.owner);
        let mark = |user| {
            let mark = MarkRecord(Receipt {
                channel,
                user,
                device: device.clone(),
                delivered: head,
                read: head,
            });
            (channel, mark.encode())
        };
        self.marks
            .at_least_once(marks.into_iter().map(mark).collect())
            .await
            .context("mark the channel as read")
    }

    /// Whether an earlier run has added all members: they are not added again, since some may have
    /// left. It was the last to mark the channel for the owner; while the store has not read that
    /// mark, or if the owner's other devices have displaced it, the answer is no.
    async fn is_finished(&self, channel: ChannelId) -> anyhow::Result<bool> {
        let device = device()?;
        let receipts = self.store.receipts(channel, &[self.owner]).await;
        let receipts = receipts.with_context(|| format!("read the receipts of {channel}"))?;
        Ok(receipts.iter().any(|receipt| receipt.device == device))
    }

    /// Lets everybody into a channel that was public.
    async fn publish(&self, room: &RoomPlan, channel: &Channel) -> anyhow::Result<()> {
        if room.room.private || channel.kind == ChannelKind::Public {
            return Ok(());
        }
        let opened = self.store.open_channel(channel.id).await;
        opened.with_context(|| format!("make {} public", room.name))?;
        Ok(())
    }
}

fn device() -> anyhow::Result<DeviceId> {
    DEVICE.parse().context("the device's name")
}

/// How many of these go together: none may be a reply to another of them.
fn wave(items: &[Item]) -> usize {
    let most = items.len().min(WAVE);
    let ids: HashMap<MessageId, usize> = items[..most]
        .iter()
        .enumerate()
        .map(|(at, item)| (item.id, at))
        .collect();
    let answers = |item: &Item| item.thread.is_some_and(|root| ids.contains_key(&root));
    let cut = items[..most].iter().position(answers);
    cut.unwrap_or(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u128, thread: Option<u128>) -> Item {
        let id = |n| MessageId(uuid::Uuid::from_u128(n));
        Item {
            id: id(number),
            author: "U1".to_owned(),
            text: "x".to_owned(),
            posted_ms: 0,
            thread: thread.map(id),
            then: Vec::new(),
        }
    }

    /// A reply needs its root's seq, so it waits for the wave that has it.
    #[test]
    fn wave_ends_before_a_reply_to_one_of_its_own() {
        let items = [
            item(1, None),
            item(2, None),
            item(3, Some(1)),
            item(4, Some(3)),
            item(5, Some(99)),
        ];
        assert_eq!(wave(&items), 2);
        assert_eq!(wave(&items[2..]), 1);
        assert_eq!(wave(&items[3..]), 2);
        let many: Vec<_> = (1..=300).map(|n| item(n, None)).collect();
        assert_eq!(wave(&many), WAVE);
    }
}
