//! The JSON of a Slack export, as far as it is carried. Everything is optional but what makes a
//! thing that thing: exports of ten years, of several plans and of third-party tools differ.
//!
//! Sources: Slack's help page "How to read Slack data exports", the message subtypes of Slack's
//! Events API, and what other importers found in real exports.
use serde::{Deserialize, Deserializer};

/// An entry of `users.json` (`org_users.json` of an Enterprise organisation).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) real_name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_bot: bool,
    #[serde(deserialize_with = "lenient")]
    pub(super) profile: Profile,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Profile {
    #[serde(deserialize_with = "lenient")]
    pub(super) display_name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) real_name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) email: String,
}

/// An entry of `channels.json`, `groups.json` (private), `mpims.json` (private, without a name of
/// its own) and `dms.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Channel {
    pub(super) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) creator: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_archived: bool,
    #[serde(deserialize_with = "lenient")]
    pub(super) members: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) topic: Note,
    #[serde(deserialize_with = "lenient")]
    pub(super) purpose: Note,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    #[serde(deserialize_with = "lenient")]
    pub(super) value: String,
}

/// An entry of a day's file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    #[serde(deserialize_with = "lenient")]
    pub(super) subtype: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) ts: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) user: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) bot_id: String,
    /// The name that a bot gave itself for this message.
    #[serde(deserialize_with = "lenient")]
    pub(super) username: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) text: String,
    /// `ts` of the thread's first message; its own `ts` on that one.
    #[serde(deserialize_with = "lenient")]
    pub(super) thread_ts: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) edited: Option<Edited>,
    #[serde(deserialize_with = "lenient")]
    pub(super) reactions: Vec<Reaction>,
    #[serde(deserialize_with = "lenient")]
    pub(super) files: Vec<File>,
    /// Exports of before 2018.
    #[serde(deserialize_with = "lenient")]
    pub(super) file: Option<File>,
    #[serde(deserialize_with = "lenient")]
    pub(super) attachments: Vec<Attachment>,
    /// The text of a `file_comment`.
    #[serde(deserialize_with = "lenient")]
    pub(super) comment: Option<Comment>,
    #[serde(deserialize_with = "lenient")]
    pub(super) bot_profile: Option<BotProfile>,
    /// Of `message_changed`, where the workspace keeps an edit log: the message as it became.
    #[serde(deserialize_with = "lenient")]
    pub(super) message: Option<Box<Message>>,
    /// Of `message_changed` and `message_deleted`: the message as it was.
    #[serde(alias = "original", alias = "previous")]
    #[serde(deserialize_with = "lenient")]
    pub(super) previous_message: Option<Box<Message>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) deleted_ts: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Edited {
    #[serde(deserialize_with = "lenient")]
    pub(super) ts: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reaction {
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) users: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) count: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) title: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) permalink: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) url_private: String,
}

/// What an app added below a message, or what Slack shows of a link.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attachment {
    #[serde(deserialize_with = "lenient")]
    pub(super) pretext: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) title: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) title_link: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) text: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) fallback: String,
    /// The link that it shows: the message has it already.
    #[serde(deserialize_with = "lenient")]
    pub(super) from_url: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Comment {
    #[serde(deserialize_with = "lenient")]
    pub(super) user: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) comment: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BotProfile {
    #[serde(deserialize_with = "lenient")]
    pub(super) name: String,
}

/// A field of another type than expected is as good as absent: null, a number for a string, a
/// string for a list.
fn lenient<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Maybe<T> {
        Is(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Maybe::deserialize(deserializer)? {
        Maybe::Is(value) => value,
        Maybe::Other(_) => T::default(),
    })
}

impl User {
    /// The name that people know somebody by.
    pub(super) fn shown(&self) -> &str {
        let names = [
            &self.profile.display_name,
            &self.profile.real_name,
            &self.real_name,
            &self.name,
            &self.id,
        ];
        names
            .into_iter()
            .map(|name| name.trim())
            .find(|name| !name.is_empty())
            .unwrap_or("somebody")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_another_type_are_as_good_as_absent() {
        let json = r#"{"ts":"1.000001","user":null,"text":7,"reactions":"x","edited":7,
            "files":[{"name":"a","url_private":null},{"name":1}],"blocks":[{"type":"rich_text"}]}"#;
        let message: Message = serde_json::from_str(json).expect("a message");
        assert_eq!(message.ts, "1.000001");
        assert_eq!((message.user.as_str(), message.text.as_str()), ("", ""));
        assert!(message.reactions.is_empty() && message.edited.is_none());
        let names: Vec<_> = message.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["a", ""]);
    }

    #[test]
    fn people_are_known_by_what_they_chose() {
        let json =
            r#"{"id":"U1","name":"mary","profile":{"display_name":" ","real_name":"Mary M"}}"#;
        let user: User = serde_json::from_str(json).expect("a user");
        assert_eq!(user.shown(), "Mary M");
        assert_eq!(User::default().shown(), "somebody");
    }
}
