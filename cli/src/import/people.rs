//! Who an export's people are here.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use clap::ValueEnum;
use hubbub_protocol::{UserId, limits};
use hubbub_service::token::is_subject;
use hubbub_store::Store;

use super::slack::User;

/// What a token must say to be somebody of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subjects {
    /// The e-mail address, if the export has it; else `slack:U024BE7LH`
    Email,
    /// The name that they signed in by, such as mary: whoever has that subject already is them
    Name,
    /// `slack:U024BE7LH`: nobody who is here already
    Id,
}

/// Somebody of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) subject: String,
    pub(super) name: String,
}

/// Everybody that a plan needs, by key (see `plan::author`).
pub(super) fn people(
    users: &[User],
    bots: &HashMap<String, String>,
    needed: &BTreeSet<String>,
    subjects: Subjects,
) -> BTreeMap<String, Person> {
    let listed: HashMap<&str, &User> = users.iter().map(|u| (u.id.as_str(), u)).collect();
    let person = |key: &String| match listed.get(key.as_str()) {
        Some(user) => Person {
            subject: subject(user, subjects),
            name: fit(user.shown(), limits::USER_NAME_BYTES),
        },
        None => {
            let own = key.strip_prefix("bot:");
            let name = bots.get(key).map(String::as_str).or(own).unwrap_or(key);
            Person {
                subject: format!("slack:{key}"),
                name: fit(name, limits::USER_NAME_BYTES),
            }
        }
    };
    needed
        .iter()
        .map(|key| (key.clone(), person(key)))
        .collect()
}

fn subject(user: &User, subjects: Subjects) -> String {
    let chosen = match subjects {
        // A bot's address is its owner's.
        Subjects::Email if !user.is_bot => user.profile.email.trim(),
        Subjects::Name if !user.is_bot => user.name.trim(),
        Subjects::Email | Subjects::Name | Subjects::Id => "",
    };
    // What no token can say would be nobody.
    match is_subject(chosen) {
        true => chosen.to_owned(),
        false => format!("slack:{}", user.id),
    }
}

/// A name of at most `most` bytes without control characters and without white space at its ends.
pub(super) fn fit(name: &str, most: usize) -> String {
    let printable: String = name.chars().filter(|c| !c.is_control()).collect();
    let trimmed = printable.trim();
    let cut = trimmed[..trimmed.floor_char_boundary(most)].trim_end();
    if cut.is_empty() {
        "somebody".to_owned()
    } else {
        cut.to_owned()
    }
}

/// Creates whoever is not here yet, and tells everybody's id.
pub(super) async fn provision(
    store: &Store,
    people: &BTreeMap<String, Person>,
) -> anyhow::Result<HashMap<String, UserId>> {
    let mut ids = HashMap::with_capacity(people.len());
    for (key, person) in people {
        let user = store.provision_user(&person.subject, &person.name).await;
        let user = user.with_context(|| format!("create the user {}", person.subject))?;
        ids.insert(key.clone(), user.id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use hubbub_service::token::SUBJECT_BYTES;

    use super::*;

    fn user(id: &str, email: &str, is_bot: bool) -> User {
        let json = serde_json::json!({
            "id": id, "name": "mary", "is_bot": is_bot, "profile": { "email": email },
        });
        serde_json::from_value(json).expect("a user")
    }

    #[test]
    fn subjects_are_as_chosen_and_never_a_bots_owner() {
        let users = [
            user("U1", "mary@a.example", false),
            user("U2", "", false),
            user("U3", "mary@a.example", true),
        ];
        let keys = ["U1", "U2", "U3", "U4", "bot:deploys"];
        let needed = keys.iter().map(|key| (*key).to_owned()).collect();
        for (subjects, expected) in [
            (Subjects::Email, ["mary@a.example", "slack:U2", "slack:U3"]),
            (Subjects::Name, ["mary", "mary", "slack:U3"]),
            (Subjects::Id, ["slack:U1", "slack:U2", "slack:U3"]),
        ] {
            let people = people(&users, &HashMap::new(), &needed, subjects);
            let got = keys.map(|key| people[key].subject.as_str());
            assert_eq!(got[..3], expected, "{subjects:?}");
            assert_eq!(got[3..], ["slack:U4", "slack:bot:deploys"]);
            assert_eq!(people["bot:deploys"].name, "deploys");
            assert_eq!(people["U4"].name, "U4");
        }
    }

    #[test]
    fn what_no_token_can_say_is_no_subject() {
        for email in ["a\u{0}@a.example", &"a".repeat(SUBJECT_BYTES + 1)] {
            assert_eq!(
                subject(&user("U1", email, false), Subjects::Email),
                "slack:U1"
            );
        }
    }

    #[test]
    fn names_fit() {
        assert_eq!(fit(" a\u{7}b ", 80), "ab");
        assert_eq!(fit(&"ä".repeat(41), 80), "ä".repeat(40));
        assert_eq!(fit("\u{0}", 80), "somebody");
    }
}
