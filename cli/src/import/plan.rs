//! What an export becomes: messages with what happened to them, under ids that another run of the
//! same export gives again. No I/O.
use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use hubbub_protocol::{MessageId, check_reaction, limits};
use uuid::Uuid;

use super::{
    report::{Counts, Loss, Losses},
    slack,
    text::{Names, parts, readable},
};

/// The namespace of imported ids (RFC 9562, 5.5). Never changes: it is what makes a second run of
/// an import find what the first one brought.
const NAMESPACE: Uuid = Uuid::from_u128(0x3d1e_54f5_0c5b_4b7e_9a0f_6b0d_5a6c_21e7);

/// One message for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: MessageId,
    /// Key of who said it; see [`author`].
    pub(super) author: String,
    pub(super) text: String,
    pub(super) posted_ms: i64,
    /// Id of the thread's first message.
    pub(super) thread: Option<MessageId>,
    /// What happened to it afterwards, in this order.
    pub(super) then: Vec<Then>,
}

/// A record about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Then {
    pub(super) id: MessageId,
    pub(super) author: String,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Edit(String),
    Delete,
    React(String),
}

/// The edit log of a room, where the workspace keeps one: what happened to the message of a `ts`.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(HashMap<String, Vec<Change>>);

#[derive(Debug, Clone)]
struct Change {
    ts: String,
    /// The text as it was before.
    before: Option<String>,
    /// The text as it became; `None`: it was deleted.
    after: Option<String>,
}

impl Changes {
    /// Notes what a day's file says of changes.
    pub(super) fn note(&mut self, messages: &[slack::Message]) {
        for message in messages {
            let (now, was) = (&message.message, &message.previous_message);
            let before = was.as_ref().map(|was| was.text.clone());
            let target = match (message.subtype.as_str(), now) {
                ("message_changed", Some(now)) => &now.ts,
                ("message_deleted", _) if !message.deleted_ts.is_empty() => &message.deleted_ts,
                ("message_deleted", _) => match was {
                    Some(was) => &was.ts,
                    None => continue,
                },
                _ => continue,
            };
            let after = now
                .as_ref()
                .filter(|now| message.subtype == "message_changed" && now.subtype != "tombstone")
                .map(|now| now.text.clone());
            if after.is_some() && after == before {
                // The preview of a link came.
                continue;
            }
            self.0.entry(target.clone()).or_default().push(Change {
                ts: message.ts.clone(),
                before,
                after,
            });
        }
    }

    fn of(&self, ts: &str) -> &[Change] {
        self.0.get(ts).map_or(&[], Vec::as_slice)
    }
}

/// The id of what an export calls `ts` in the channel `room` (both Slack's).
pub(super) fn id(room: &str, what: &str) -> MessageId {
    MessageId(Uuid::new_v5(
        &NAMESPACE,
        format!("{room}/{what}").as_bytes(),
    ))
}

/// The last second of the year 9999: what is beyond is no time that a page can show.
const LAST_SECOND: i64 = 253_402_300_799;

/// Milliseconds since 1970 of Slack's `1355517523.000005`.
fn posted_ms(ts: &str) -> Option<i64> {
    let (seconds, micros) = ts.split_once('.').unwrap_or((ts, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(micros) {
        return None;
    }
    // Padded to the right: ".5" would be half a second.
    let millis = format!("{micros:0<3}");
    let seconds: i64 = seconds.parse().ok()?;
    if seconds > LAST_SECOND {
        return None;
    }
    seconds
        .checked_mul(1_000)?
        .checked_add(millis.get(..3)?.parse().ok()?)
}

/// Who said it: an id of `users.json`, a bot's id, or the name that a bot gave itself.
fn author(message: &slack::Message) -> Option<String> {
    if let Some(comment) = &message.comment
        && !comment.user.is_empty()
    {
        return Some(comment.user.clone());
    }
    let known = [&message.user, &message.bot_id]
        .into_iter()
        .find(|id| !id.is_empty());
    match known {
        Some(id) => Some(id.clone()),
        None if !message.username.is_empty() => Some(format!("bot:{}", message.username)),
        None => None,
    }
}

/// One channel of the export on its way.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    /// Slack's id of the channel.
    pub(super) room: &'a str,
    pub(super) names: &'a Names,
    pub(super) changes: &'a Changes,
}

/// What a channel has, found by reading all of it once.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) counts: Counts,
    pub(super) losses: Losses,
    /// Keys of everybody who said or did something.
    pub(super) people: BTreeSet<Arc<str>>,
    /// Names that bots gave themselves.
    pub(super) bots: HashMap<String, String>,
    /// Every id that its records will have, with whose it is.
    pub(super) ids: HashMap<MessageId, Arc<str>>,
    threads: Vec<MessageId>,
}

impl Planner<'_> {
    /// The messages of a day, in the order of time.
    pub(super) fn items(&self, messages: &[slack::Message], losses: &mut Losses) -> Vec<Item> {
        let mut items = Vec::with_capacity(messages.len());
        for message in messages {
            self.item(message, &mut items, losses);
        }
        items
    }

    fn item(&self, message: &slack::Message, into: &mut Vec<Item>, losses: &mut Losses) {
        match message.subtype.as_str() {
            "" | "bot_message" | "me_message" | "thread_broadcast" | "reply_broadcast"
            | "file_share" | "file_mention" | "file_comment" | "slackbot_response"
            | "tombstone" => {}
            // Of the edit log: read before, by `Changes`.
            "message_changed" | "message_deleted" => return,
            "channel_join" | "channel_leave" | "group_join" | "group_leave" => {
                return losses.note(Loss::JoinLeave);
            }
            _ => return losses.note(Loss::Notice),
        }
        let (Some(author), Some(posted_ms)) = (author(message), posted_ms(&message.ts)) else {
            return losses.note(Loss::Unreadable);
        };
        let changes = self.changes.of(&message.ts);
        let first = changes.iter().find_map(|change| change.before.as_deref());
        let text = self.text(message, first.unwrap_or(&message.text), losses);
        let parts = parts(&text);
        if parts.is_empty() {
            return losses.note(Loss::Empty);
        }
        if parts.len() > 1 {
            losses.note(Loss::Split);
        }
        let is_reply = !message.thread_ts.is_empty() && message.thread_ts != message.ts;
        let thread = is_reply.then(|| id(self.room, &message.thread_ts));
        let then = self.then(message, &author, &parts[0], losses);
        for (n, text) in parts.into_iter().enumerate() {
            let what = match n {
                0 => message.ts.clone(),
                n => format!("{}/{n}", message.ts),
            };
            into.push(Item {
                id: id(self.room, &what),
                author: author.clone(),
                text,
                posted_ms,
                thread,
                then: if n == 0 { then.clone() } else { Vec::new() },
            });
        }
    }

    /// What people read: the text, what an app added to it, and where its files are.
    fn text(&self, message: &slack::Message, text: &str, losses: &mut Losses) -> String {
        let mut lines = vec![readable(text, self.names)];
        if message.subtype == "me_message" {
            lines[0] = format!("_{}_", lines[0]);
        }
        if let Some(comment) = &message.comment
            && lines[0].is_empty()
        {
            lines[0] = readable(&comment.comment, self.names);
        }
        for attachment in &message.attachments {
            if !attachment.from_url.is_empty() {
                losses.note(Loss::Unfurled);
                continue;
            }
            let title = match (attachment.title.as_str(), attachment.title_link.as_str()) {
                ("", link) => link.to_owned(),
                (title, "") => title.to_owned(),
                (title, link) => format!("<{link}|{title}>"),
            };
            let added = [attachment.pretext.as_str(), &title, &attachment.text];
            let mut any = false;
            for line in added.into_iter().filter(|line| !line.trim().is_empty()) {
                lines.push(readable(line, self.names));
                any = true;
            }
            if !any && !attachment.fallback.is_empty() {
                lines.push(readable(&attachment.fallback, self.names));
            }
        }
        for file in message.files.iter().chain(&message.file) {
            losses.note(Loss::Files);
            let link = [&file.permalink, &file.url_private]
                .into_iter()
                .find(|link| !link.is_empty());
            let name = [&file.title, &file.name]
                .into_iter()
                .find(|name| !name.is_empty());
            let line = match (name, link) {
                (Some(name), Some(link)) if !lines[0].contains(link.as_str()) => {
                    format!("[file: {name}] {link}")
                }
                (None, Some(link)) if !lines[0].contains(link.as_str()) => format!("[file] {link}"),
                (Some(name), None) => format!("[file: {name}]"),
                _ => continue,
            };
            lines.push(line.replace('\0', ""));
        }
        lines.retain(|line| !line.trim().is_empty());
        lines.join("\n")
    }

    fn then(
        &self,
        message: &slack::Message,
        author: &str,
        text: &str,
        losses: &mut Losses,
    ) -> Vec<Then> {
        let mut then = Vec::new();
        let record = |what: &str, author: &str, kind: What| Then {
            id: id(self.room, &format!("{}/{what}", message.ts)),
            author: author.to_owned(),
            what: kind,
        };
        let changes = self.changes.of(&message.ts);
        let mut deleted = message.subtype == "tombstone";
        for change in changes {
            // By the author, whoever it was: an admin's edit would need the admin's role here.
            match &change.after {
                Some(after) => {
                    let after = parts(&self.text(message, after, &mut Losses::default()));
                    if let Some(after) = after.into_iter().next() {
                        let what = format!("edit/{}", change.ts);
                        then.push(record(&what, author, What::Edit(after)));
                    }
                }
                None => deleted = true,
            }
        }
        if let (Some(edited), []) = (&message.edited, changes) {
            losses.note(Loss::EarlierText);
            let what = format!("edit/{}", edited.ts);
            then.push(record(&what, author, What::Edit(text.to_owned())));
        }
        if deleted {
            then.push(record("delete", author, What::Delete));
            return then;
        }
        for (kind, reaction) in message.reactions.iter().enumerate() {
            let named = check_reaction(&reaction.name).is_ok();
            let listed = reaction.users.len() as u64;
            if !named {
                losses.count(Loss::ReactionName, listed.max(reaction.count));
                continue;
            }
            losses.count(Loss::ReactionName, reaction.count.saturating_sub(listed));
            let fits = match kind < limits::REACTIONS_PER_MESSAGE {
                true => reaction.users.len().min(limits::USERS_PER_REACTION),
                false => 0,
            };
            let beyond = reaction.users.len() - fits;
            losses.count(Loss::TooManyReactions, beyond as u64);
            for user in &reaction.users[..fits] {
                let what = format!("reaction/{}/{user}", reaction.name);
                then.push(record(&what, user, What::React(reaction.name.clone())));
            }
        }
        then
    }
}

impl Survey {
    /// Counts a day's messages.
    pub(super) fn note(&mut self, items: &[Item], messages: &[slack::Message]) {
        for message in messages {
            let bot = author(message).filter(|key| *key != message.user);
            let profile = message.bot_profile.as_ref().map(|profile| &profile.name);
            let name = [Some(&message.username), profile]
                .into_iter()
                .flatten()
                .find(|name| !name.is_empty());
            if let (Some(bot), Some(name)) = (bot, name) {
                self.bots.entry(bot).or_insert_with(|| name.clone());
            }
        }
        for item in items {
            if !self.plan(item.id, &item.author) {
                self.losses.note(Loss::Twice);
                continue;
            }
            self.threads.extend(item.thread);
            let counts = &mut self.counts;
            counts.messages += 1;
            counts.replies += u64::from(item.thread.is_some());
            let at = Some(item.posted_ms);
            counts.first_ms = counts.first_ms.map_or(at, |first| at.min(Some(first)));
            counts.last_ms = counts.last_ms.max(at);
            for then in &item.then {
                if !self.plan(then.id, &then.author) {
                    continue;
                }
                match then.what {
                    What::Edit(_) => self.counts.edits += 1,
                    What::Delete => self.counts.deletes += 1,
                    What::React(_) => self.counts.reactions += 1,
                }
            }
        }
    }

    /// Takes an id for somebody; `false`: it is taken already.
    fn plan(&mut self, id: MessageId, author: &str) -> bool {
        let Entry::Vacant(free) = self.ids.entry(id) else {
            return false;
        };
        // One text for each of them, not one for each record.
        let author = self.people.get(author).cloned().unwrap_or_else(|| {
            let author: Arc<str> = author.into();
            self.people.insert(author.clone());
            author
        });
        free.insert(author);
        true
    }

    /// To be called after the last day.
    pub(super) fn finish(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        let lost = threads.iter().filter(|root| !self.ids.contains_key(root));
        let lost = lost.count() as u64;
        self.losses.count(Loss::NoThread, lost);
        self.counts.replies -= lost;
    }
}

#[cfg(test)]
mod tests;
