//! All of an export, read once before anything is written: how much it is, who it needs, what of
//! it cannot be carried.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use hubbub_protocol::{MessageId, limits};

use super::{
    export::{Export, Room},
    people::{self, Person},
    plan::{Changes, Planner, Survey},
    report::{Counts, Loss, Losses},
    text::Names,
};
use crate::{
    args::ImportArgs,
    failure::usage,
    show::{day, harmless},
    table::table,
};

/// One channel to be.
#[derive(Debug)]
pub(super) struct RoomPlan {
    pub(super) room: Room,
    /// The name that it will have.
    pub(super) name: String,
    pub(super) counts: Counts,
    /// Every id that its records will have, with the key of whose it is.
    pub(super) ids: HashMap<MessageId, Arc<str>>,
    changes: Changes,
}

impl RoomPlan {
    pub(super) fn planner<'a>(&'a self, plan: &'a Plan) -> Planner<'a> {
        Planner {
            room: &self.room.slack.id,
            names: &plan.names,
            changes: &self.changes,
        }
    }
}

/// The whole import.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rooms: Vec<RoomPlan>,
    pub(super) people: BTreeMap<String, Person>,
    pub(super) total: Counts,
    pub(super) losses: Losses,
    names: Names,
}

/// Reads everything that was asked for.
pub(super) fn survey(export: &mut Export, args: &ImportArgs) -> anyhow::Result<Plan> {
    let mut plan = Plan {
        names: names(export),
        ..Plan::default()
    };
    plan.losses.count(Loss::Direct, export.direct as u64);
    plan.losses
        .count(Loss::Unlisted, export.unlisted.len() as u64);
    let rooms = chosen(&export.rooms, args)?;
    let mut taken = HashSet::new();
    let (mut needed, mut bots) = (BTreeSet::new(), HashMap::new());
    for room in rooms {
        let name = name(&room, &args.prefix, &mut taken, &mut plan.losses);
        let mut changes = Changes::default();
        for path in &room.days {
            changes.note(&export.day(path)?.messages);
        }
        let planner = Planner {
            room: &room.slack.id,
            names: &plan.names,
            changes: &changes,
        };
        let mut survey = Survey::default();
        for path in &room.days {
            let day = export.day(path)?;
            survey.losses.count(Loss::Unreadable, day.unreadable);
            let mut losses = Losses::default();
            let items = planner.items(&day.messages, &mut losses);
            survey.losses.add(&losses);
            survey.note(&items, &day.messages);
        }
        survey.finish();
        about(&room, &mut plan.losses);
        plan.losses.add(&survey.losses);
        plan.total.add(&survey.counts);
        needed.extend(survey.people.iter().map(|key| key.to_string()));
        needed.extend(room.slack.members.iter().cloned());
        bots.extend(survey.bots);
        plan.rooms.push(RoomPlan {
            room,
            name,
            counts: survey.counts,
            ids: survey.ids,
            changes,
        });
    }
    let listed: HashSet<&str> = export.users.iter().map(|user| user.id.as_str()).collect();
    let unknown = needed
        .iter()
        .filter(|key| !listed.contains(key.as_str()) && !bots.contains_key(*key))
        .filter(|key| !key.starts_with("bot:"));
    plan.losses.count(Loss::NoPerson, unknown.count() as u64);
    plan.people = people::people(&export.users, &bots, &needed, args.subjects);
    Ok(plan)
}

fn names(export: &Export) -> Names {
    let users = export.users.iter();
    let rooms = export.rooms.iter();
    Names {
        users: users
            .map(|user| (user.id.clone(), user.shown().to_owned()))
            .collect(),
        channels: rooms
            .map(|room| (room.slack.id.clone(), room.slack.name.clone()))
            .collect(),
    }
}

/// The rooms that `--only` and `--except` leave.
fn chosen(rooms: &[Room], args: &ImportArgs) -> anyhow::Result<Vec<Room>> {
    let names = |room: &Room, list: &[String]| {
        list.iter()
            .any(|name| *name == room.slack.name || *name == room.slack.id)
    };
    for name in args.only.iter().chain(&args.except) {
        let one = std::slice::from_ref(name);
        if !rooms.iter().any(|room| names(room, one)) {
            return Err(usage(format!("the export has no channel {name}")));
        }
    }
    let wanted = |room: &&Room| {
        (args.only.is_empty() || names(room, &args.only)) && !names(room, &args.except)
    };
    Ok(rooms.iter().filter(wanted).cloned().collect())
}

/// A name that a channel may have, unlike those before it.
fn name(room: &Room, prefix: &str, taken: &mut HashSet<String>, losses: &mut Losses) -> String {
    let wished = format!("{prefix}{}", room.slack.name);
    let mut name = people::fit(&wished, limits::CHANNEL_NAME_BYTES);
    if taken.contains(&name) {
        let room_id = format!("-{}", room.slack.id);
        let most = limits::CHANNEL_NAME_BYTES.saturating_sub(room_id.len());
        name = people::fit(&wished, most) + &room_id;
    }
    if name != wished {
        losses.note(Loss::Renamed);
    }
    taken.insert(name.clone());
    name
}

/// What a channel has and Hubbub has not.
fn about(room: &Room, losses: &mut Losses) {
    let notes = [&room.slack.topic.value, &room.slack.purpose.value];
    let notes = notes.into_iter().filter(|note| !note.is_empty());
    losses.count(Loss::Topic, notes.count() as u64);
    losses.count(Loss::Archived, u64::from(room.slack.is_archived));
}

impl Plan {
    /// The report for people.
    pub(super) fn lines(&self, file: &Path) -> Vec<String> {
        let span = match (self.total.first_ms, self.total.last_ms) {
            (Some(first), Some(last)) => format!(", {} to {}", day(first), day(last)),
            _ => String::new(),
        };
        let mut lines = vec![format!(
            "{}: {} channels, {} people, {} records{span}",
            file.display(),
            self.rooms.len(),
            self.people.len(),
            self.total.records()
        )];
        let mut rows: Vec<_> = self.rooms.iter().map(RoomPlan::row).collect();
        rows.push(row("total", "", None, &self.total));
        let head = [
            "CHANNEL",
            "KIND",
            "MEMBERS",
            "MESSAGES",
            "IN THREADS",
            "EDITS",
            "DELETED",
            "REACTIONS",
        ];
        lines.extend(table(&head, &rows, &[2, 3, 4, 5, 6, 7]));
        let losses = self.losses.lines();
        if losses.is_empty() {
            lines.push("everything can be carried".to_owned());
        } else {
            lines.push("not carried, or otherwise than it was:".to_owned());
            lines.extend(losses);
        }
        lines
    }
}

impl RoomPlan {
    fn row(&self) -> Vec<String> {
        let kind = if self.room.private {
            "private"
        } else {
            "public"
        };
        let name = harmless(&self.name).replace('\n', " ");
        row(
            &name,
            kind,
            Some(self.room.slack.members.len()),
            &self.counts,
        )
    }
}

fn row(name: &str, kind: &str, members: Option<usize>, counts: &Counts) -> Vec<String> {
    vec![
        name.to_owned(),
        kind.to_owned(),
        members.map(|n| n.to_string()).unwrap_or_default(),
        counts.messages.to_string(),
        counts.replies.to_string(),
        counts.edits.to_string(),
        counts.deletes.to_string(),
        counts.reactions.to_string(),
    ]
}
