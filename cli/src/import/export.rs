//! A Slack export as a file: a zip with a few lists and a folder of days for each conversation.
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zip::{ZipArchive, result::ZipError};

use super::slack::{Channel, Message, User};

/// A file of an export, unpacked: a day of a conversation, or a list. Real ones are far smaller; a
/// zip can claim anything.
const FILE_BYTES: u64 = 512 * 1024 * 1024;

/// An export that was opened: its lists are read, its days are not.
pub(super) struct Export {
    archive: ZipArchive<BufReader<File>>,
    /// What stands before the names of all files, where the export was packed once more.
    root: String,
    pub(super) users: Vec<User>,
    pub(super) rooms: Vec<Room>,
    /// Conversations of two.
    pub(super) direct: usize,
    /// Folders that no list names.
    pub(super) unlisted: Vec<String>,
}

/// A conversation that can become a channel.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) slack: Channel,
    pub(super) private: bool,
    /// The names of its days' files, in the order of the days.
    pub(super) days: Vec<String>,
}

/// A day's messages, by time, and how many entries were none.
#[derive(Debug, Default)]
pub(super) struct Day {
    pub(super) messages: Vec<Message>,
    pub(super) unreadable: u64,
}

impl Export {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let archive = ZipArchive::new(BufReader::new(file))
            .with_context(|| format!("read {} as a zip file", path.display()))?;
        let paths: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<_, _>>()
            .context("read the names in the zip file")?;
        let root = root(paths.iter().map(String::as_str)).with_context(|| {
            format!(
                "{} has no channels.json, groups.json or mpims.json: is it a Slack export?",
                path.display()
            )
        })?;
        let mut export = Self {
            archive,
            root,
            users: Vec::new(),
            rooms: Vec::new(),
            direct: 0,
            unlisted: Vec::new(),
        };
        export.users = export.list("users.json")?;
        let organisation: Vec<User> = export.list("org_users.json")?;
        export.users.extend(organisation);
        let mut rooms: Vec<_> = export
            .list::<Channel>("channels.json")?
            .into_iter()
            .map(|slack| (slack, false))
            .collect();
        for name in ["groups.json", "mpims.json"] {
            let private = export.list::<Channel>(name)?;
            rooms.extend(private.into_iter().map(|slack| (slack, true)));
        }
        let direct: Vec<Channel> = export.list("dms.json")?;
        export.direct = direct.len();
        export.place(&paths, rooms, &direct);
        Ok(export)
    }

    /// Finds the days of each conversation.
    fn place(&mut self, paths: &[String], rooms: Vec<(Channel, bool)>, direct: &[Channel]) {
        let mut days: Vec<(String, String)> = paths
            .iter()
            .filter_map(|path| {
                let (folder, name) = path.strip_prefix(&self.root)?.split_once('/')?;
                let is_day = name.ends_with(".json") && !name.contains('/');
                is_day.then(|| (folder.to_owned(), path.clone()))
            })
            .collect();
        // Files are named by date: so they come in its order.
        days.sort();
        let of = |folder: &str| -> Vec<String> {
            let own = days.iter().filter(|(f, _)| f == folder);
            own.map(|(_, path)| path.clone()).collect()
        };
        let mut known: Vec<String> = direct.iter().map(|d| d.id.clone()).collect();
        for (mut slack, private) in rooms {
            // The folder has the name; exports of other tools name it by the id.
            let folder = [&slack.name, &slack.id]
                .into_iter()
                .find(|folder| !folder.is_empty() && days.iter().any(|(f, _)| f == *folder));
            let own = folder.map(|folder| of(folder)).unwrap_or_default();
            known.extend(folder.cloned());
            if slack.name.is_empty() {
                slack.name.clone_from(&slack.id);
            }
            self.rooms.push(Room {
                slack,
                private,
                days: own,
            });
        }
        let mut unlisted: Vec<_> = days.into_iter().map(|(folder, _)| folder).collect();
        unlisted.dedup();
        unlisted.retain(|folder| !known.contains(folder));
        self.unlisted = unlisted;
    }

    /// A list at the top; empty if the export has none of that name.
    fn list<T: DeserializeOwned>(&mut self, name: &str) -> anyhow::Result<Vec<T>> {
        let path = format!("{}{name}", self.root);
        let Some(json) = self.read(&path)? else {
            return Ok(Vec::new());
        };
        let entries: Vec<Value> =
            serde_json::from_slice(&json).with_context(|| format!("read {path} as a list"))?;
        entries
            .into_iter()
            .map(|entry| serde_json::from_value(entry).with_context(|| format!("read {path}")))
            .collect()
    }

    /// The messages of one of [`Room::days`].
    pub(super) fn day(&mut self, path: &str) -> anyhow::Result<Day> {
        let json = self.read(path)?.unwrap_or_default();
        let entries: Vec<Value> = serde_json::from_slice(&json)
            .with_context(|| format!("read {path} as a list of messages"))?;
        let mut day = Day::default();
        for entry in entries {
            match serde_json::from_value::<Message>(entry) {
                Ok(message) => day.messages.push(message),
                Err(_) => day.unreadable += 1,
            }
        }
        // Ten digits before the dot for two centuries: text order is the order of time.
        day.messages.sort_by(|a, b| a.ts.cmp(&b.ts));
        Ok(day)
    }

    fn read(&mut self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let file = match self.archive.by_name(path) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        };
        let mut all = Vec::new();
        file.take(FILE_BYTES + 1)
            .read_to_end(&mut all)
            .with_context(|| format!("unpack {path}"))?;
        anyhow::ensure!(
            all.len() as u64 <= FILE_BYTES,
            "{path} is longer than {FILE_BYTES} bytes"
        );
        Ok(Some(all))
    }
}

/// What stands before `channels.json`, or another list of conversations; the shortest.
fn root<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let lists = ["channels.json", "groups.json", "mpims.json"];
    names
        .filter_map(|name| lists.iter().find_map(|list| name.strip_suffix(list)))
        .filter(|root| root.is_empty() || root.ends_with('/'))
        .min_by_key(|root| root.len())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_in_a_folder_too() {
        let names = ["x/readme", "x/general/2020-01-01.json", "x/channels.json"];
        assert_eq!(root(names.into_iter()).as_deref(), Some("x/"));
        let names = ["groups.json", "old/channels.json"];
        assert_eq!(root(names.into_iter()).as_deref(), Some(""));
        assert_eq!(root(["mychannels.json"].into_iter()), None);
    }
}
