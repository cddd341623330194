//! A Slack export as a file: a zip with a few lists and a folder of days for each conversation.
use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    marker::PhantomData,
    path::Path,
};

use anyhow::Context as _;
use serde::{
    Deserializer as _,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use zip::{ZipArchive, result::ZipError};

use super::slack::{Channel, Message, User};

/// A file of an export, unpacked: a day of a conversation, or a list. Real ones are far smaller (a
/// list of 50,000 people has about that); a zip can claim anything.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Entries of one: `{}` takes two bytes there, and some hundreds here.
const FILE_ENTRIES: usize = 500_000;

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
        let Some(file) = self.file(&path)? else {
            return Ok(Vec::new());
        };
        let mut list = Vec::new();
        each(file, |entry: T| list.push(entry))
            .with_context(|| format!("read {path} as a list"))?;
        Ok(list)
    }

    /// The messages of one of [`Room::days`].
    pub(super) fn day(&mut self, path: &str) -> anyhow::Result<Day> {
        let mut day = Day::default();
        let Some(file) = self.file(path)? else {
            return Ok(day);
        };
        // Each is cut out first, whatever it is: so what is no message costs itself alone.
        let entry = |entry: Box<RawValue>| match serde_json::from_str::<Message>(entry.get()) {
            Ok(message) => day.messages.push(message),
            Err(_) => day.unreadable += 1,
        };
        each(file, entry).with_context(|| format!("read {path} as a list of messages"))?;
        // Ten digits before the dot for two centuries: text order is the order of time.
        day.messages.sort_by(|a, b| a.ts.cmp(&b.ts));
        Ok(day)
    }

    fn file(&mut self, path: &str) -> anyhow::Result<Option<impl Read>> {
        match self.archive.by_name(path) {
            Ok(file) => Ok(Some(Bounded {
                file,
                left: FILE_BYTES,
            })),
            Err(ZipError::FileNotFound) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {path}")),
        }
    }
}

/// A file that may have [`FILE_BYTES`] and no more: an error in place of what is beyond.
struct Bounded<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("the file is longer than {FILE_BYTES} bytes"))
        })?;
        Ok(read)
    }
}

/// Reads a JSON list entry by entry, so that neither its text nor a tree of it is held.
fn each<T: DeserializeOwned>(file: impl Read, then: impl FnMut(T)) -> serde_json::Result<()> {
    struct Entries<T, F>(F, PhantomData<T>);

    impl<'de, T: DeserializeOwned, F: FnMut(T)> Visitor<'de> for Entries<T, F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
            let mut count = 0;
            while let Some(entry) = entries.next_element()? {
                count += 1;
                if count > FILE_ENTRIES {
                    let more = format!("the file has more than {FILE_ENTRIES} entries");
                    return Err(A::Error::custom(more));
                }
                (self.0)(entry);
            }
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_reader(BufReader::new(file));
    json.deserialize_seq(Entries(then, PhantomData))?;
    json.end()
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

    /// What a zip claims is neither held nor believed.
    #[test]
    fn files_are_read_by_entry_and_within_bounds() {
        let read = |json: &mut dyn Read| {
            let mut got = Vec::new();
            each(json, |entry: Box<RawValue>| {
                got.push(entry.get().to_owned())
            })
            .map(|()| got)
        };
        let got = read(&mut &b" [ {\"a\": [1]}, 7 , \"x\"] "[..]);
        assert_eq!(
            got.expect("a list"),
            ["{\"a\": [1]}", "7", "\"x\""].map(str::to_owned)
        );
        for json in ["", "{}", "[1", "[1] 2"] {
            assert!(read(&mut json.as_bytes()).is_err(), "{json}");
        }
        let most = format!("[{}0]", "0,".repeat(FILE_ENTRIES - 1));
        assert!(each(most.as_bytes(), |_: u8| ()).is_ok());
        let more = format!("[{}0]", "0,".repeat(FILE_ENTRIES));
        let error = each(more.as_bytes(), |_: u8| ()).expect_err("too many");
        assert!(error.to_string().contains("500000 entries"), "{error}");
        // White space for ever: refused where the bound is, not where the memory ends.
        let endless = Bounded {
            file: io::repeat(b' '),
            left: FILE_BYTES,
        };
        let error = each(endless, |_: u8| ()).expect_err("too long");
        assert!(error.to_string().contains("67108864 bytes"), "{error}");
    }
}
