use std::io::{self, IsTerminal, Write};

use crossterm::style::{Color, Stylize};
use hubbub_protocol::{Body, MessageKey, Seq, UserId, http::Version, with_seq};

/// Whether colours are wanted: on a terminal, unless NO_COLOR says otherwise (no-color.org).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) color: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            color: io::stdout().is_terminal() && !refused && !dumb,
        }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(text, Color::DarkGrey)
    }

    pub(crate) fn alert(self, text: &str) -> String {
        self.paint(text, Color::Yellow)
    }

    fn paint(self, text: &str, color: Color) -> String {
        if self.color {
            text.with(color).to_string()
        } else {
            text.to_owned()
        }
    }

    /// A name, each user in a colour of their own.
    pub(crate) fn name(self, user: UserId, name: &str) -> String {
        const COLORS: [Color; 6] = [
            Color::Cyan,
            Color::Green,
            Color::Magenta,
            Color::Blue,
            Color::Red,
            Color::DarkYellow,
        ];
        let at = user.number().unsigned_abs() % COLORS.len() as u64;
        let color = COLORS[usize::try_from(at).unwrap_or(0)];
        if self.color {
            name.with(color).bold().to_string()
        } else {
            name.to_owned()
        }
    }
}

/// A record as people read it: `12:01 Mary  hello`. `name` gives a user's name.
pub(crate) fn record(style: Style, body: &Body, name: impl Fn(UserId) -> String) -> String {
    let shown = |user: UserId| style.name(user, &harmless(&name(user)));
    let time = style.dim(&time(shown_ms(body)));
    match body {
        Body::Message { user, .. } => {
            let text = message(style, body);
            format!("{time} {}  {text}", shown(*user))
        }
        Body::MessageChanged {
            user, target, text, ..
        } => {
            let text = match text.as_str() {
                // In history, once the message was deleted.
                "" => ", which is gone since".to_owned(),
                text => format!(": {}", text_below(text)),
            };
            format!("{time} * {} changed #{target}{text}", shown(*user))
        }
        Body::MessageDeleted { user, target, .. } => {
            format!("{time} * {} deleted #{target}", shown(*user))
        }
        Body::ReactionAdded {
            user,
            target,
            reaction,
            ..
        } => {
            let reaction = harmless(reaction);
            format!("{time} * {} gave #{target} {reaction}", shown(*user))
        }
        Body::ReactionRemoved {
            user,
            target,
            reaction,
            ..
        } => {
            let reaction = harmless(reaction);
            format!("{time} * {} took {reaction} from #{target}", shown(*user))
        }
        Body::IdentityChange { user, .. } => {
            format!(
                "{time} * {} has a new name, picture or status",
                shown(*user)
            )
        }
        Body::MemberJoined { user, member, .. } => {
            let by = if user == member {
                " joined".to_owned()
            } else {
                format!(" was added by {}", shown(*user))
            };
            format!("{time} * {}{by}", shown(*member))
        }
        Body::MemberLeft { user, member, .. } => {
            let by = if user == member {
                " left".to_owned()
            } else {
                format!(" was removed by {}", shown(*user))
            };
            format!("{time} * {}{by}", shown(*member))
        }
    }
}

/// The same with the number by which commands name it.
pub(crate) fn numbered(
    style: Style,
    seq: Seq,
    body: &Body,
    name: impl Fn(UserId) -> String,
) -> String {
    let text = record(style, body, name);
    match body {
        Body::Message { .. } => format!("{text} {}", style.dim(&format!("#{seq}"))),
        _ => text,
    }
}

/// What a message says, in which thread, and what became of it.
fn message(style: Style, body: &Body) -> String {
    let Body::Message {
        text,
        thread,
        edited,
        deleted,
        reactions,
        replies,
        ..
    } = body
    else {
        return String::new();
    };
    let mut shown = match (thread, deleted) {
        (Some(root), _) => style.dim(&format!("(to #{root}) ")),
        (None, _) => String::new(),
    };
    if *deleted {
        shown.push_str(&style.dim("(deleted)"));
    } else {
        shown.push_str(&text_below(text));
    }
    let mut notes = Vec::new();
    if edited.is_some() && !deleted {
        notes.push("edited".to_owned());
    }
    for reaction in reactions {
        let (name, count) = (harmless(&reaction.reaction), reaction.users.len());
        notes.push(format!("{name} {count}"));
    }
    if let Some(replies) = replies {
        let s = if replies.count == 1 { "y" } else { "ies" };
        notes.push(format!("{} repl{s}", replies.count));
    }
    if !notes.is_empty() {
        shown.push_str(&style.dim(&format!(" [{}]", notes.join(", "))));
    }
    shown
}

/// Below the text of its first line stands nobody's name: a line cannot pretend to be a message
/// of its own.
fn text_below(text: &str) -> String {
    harmless(text).replace('\n', "\n      | ")
}

/// What a message said before an edit.
pub(crate) fn version(style: Style, version: &Version) -> String {
    let (time, text) = (time(version.ts_ms), text_below(&version.text));
    style.dim(&format!("{time} before: {text}"))
}

/// A record as programs read it: the server's frame, one line.
pub(crate) fn json(seq: Seq, body: &Body) -> String {
    with_seq(seq, &body.encode())
}

/// The note that a record has another seq than was printed.
pub(crate) fn json_reseq(key: &MessageKey, from: Seq, to: Seq) -> String {
    serde_json::json!({
        "type": "reseq", "user": key.user, "message_id": key.message_id, "from": from, "to": to,
    })
    .to_string()
}

/// The time that is shown: of an imported message the one at which it was said.
pub(crate) fn shown_ms(body: &Body) -> i64 {
    match body {
        Body::Message {
            posted_ms: Some(posted_ms),
            ..
        } => *posted_ms,
        body => body.ts_ms(),
    }
}

/// Who a record is about.
pub(crate) fn users(body: &Body) -> [UserId; 2] {
    match body {
        Body::Message { user, .. }
        | Body::MessageChanged { user, .. }
        | Body::MessageDeleted { user, .. }
        | Body::ReactionAdded { user, .. }
        | Body::ReactionRemoved { user, .. }
        | Body::IdentityChange { user, .. } => [*user, *user],
        Body::MemberJoined { user, member, .. } | Body::MemberLeft { user, member, .. } => {
            [*user, *member]
        }
    }
}

const DAY_S: i64 = 86_400;

/// `HH:MM`, UTC.
pub(crate) fn time(ts_ms: i64) -> String {
    let seconds = ts_ms.div_euclid(1_000).rem_euclid(DAY_S);
    format!("{:02}:{:02}", seconds / 3_600, seconds / 60 % 60)
}

/// `YYYY-MM-DD`, UTC.
pub(crate) fn day(ts_ms: i64) -> String {
    // Days since 0000-03-01 in eras of 400 years (Howard Hinnant, "chrono-compatible low-level
    // date algorithms", civil_from_days).
    let days = ts_ms.div_euclid(DAY_S * 1_000) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Text of others for a terminal: control characters, which could move the cursor or recolour
/// the screen, and those that turn the direction of writing become visible.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        '\t' => ' ',
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '\u{FFFD}',
        c if c.is_control() => '\u{FFFD}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Prints a line to stdout. Unlike `println!` a reader that went away is an error, not a panic.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{Edited, MessageId, Reaction, Replies};
    use uuid::Uuid;

    use super::*;

    const PLAIN: Style = Style { color: false };

    fn message(text: &str) -> Body {
        Body::message(
            "C000000005".parse().expect("an id"),
            MessageId(Uuid::from_u128(1)),
            UserId::new(2).expect("from 1"),
            text.to_owned(),
            1_767_225_599_999,
        )
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ts_ms, expected) in [
            (0, "1970-01-01 00:00"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_767_225_599_999, "2025-12-31 23:59"),
            (1_767_225_600_000, "2026-01-01 00:00"),
            (4_107_542_400_000, "2100-03-01 00:00"),
            (-1, "1969-12-31 23:59"),
        ] {
            assert_eq!(format!("{} {}", day(ts_ms), time(ts_ms)), expected);
        }
    }

    #[test]
    fn text_cannot_touch_the_terminal() {
        let evil = message("a\u{1b}[2Jb\rc\u{9b}31m\n12:00 John  fake\u{202E}");
        let shown = record(PLAIN, &evil, |_| "Ma\u{1b}ry".to_owned());
        assert!(
            !shown.contains(|c: char| c.is_control() && c != '\n'),
            "{shown:?}"
        );
        assert!(!shown.contains('\u{202E}'));
        assert!(!shown.contains("\n12:00"), "{shown}");
        assert!(shown.starts_with("23:59 Ma\u{FFFD}ry  a"), "{shown}");
    }

    #[test]
    fn what_became_of_a_message_stands_behind_it() {
        let user = UserId::new(2).expect("from 1");
        let shown = |change: &dyn Fn(&mut Body)| {
            let mut body = message("hi");
            change(&mut body);
            numbered(PLAIN, Seq(7), &body, |_| "Mary".to_owned())
        };
        assert_eq!(shown(&|_| {}), "23:59 Mary  hi #7");
        let all = shown(&|body| {
            if let Body::Message {
                thread,
                posted_ms,
                edited,
                reactions,
                replies,
                ..
            } = body
            {
                *thread = Some(Seq(3));
                *posted_ms = Some(60_000);
                *edited = Some(Edited {
                    seq: Seq(9),
                    ts_ms: 1,
                    user,
                    count: 1,
                });
                reactions.push(Reaction {
                    reaction: "+\u{1b}1".to_owned(),
                    users: vec![user],
                });
                *replies = Some(Box::new(Replies {
                    count: 2,
                    last_seq: Seq(12),
                    users: vec![user],
                }));
            }
        });
        let expected = "00:01 Mary  (to #3) hi [edited, +\u{FFFD}1 1, 2 replies] #7";
        assert_eq!(all, expected);
        let gone = shown(&|body| {
            if let Body::Message { deleted, text, .. } = body {
                *deleted = true;
                text.clear();
            }
        });
        assert_eq!(gone, "23:59 Mary  (deleted) #7");
    }

    #[test]
    fn changes_name_their_message() {
        let user = UserId::new(2).expect("from 1");
        let channel = "C000000005".parse().expect("an id");
        let (message_id, target, ts_ms) = (MessageId(Uuid::from_u128(1)), Seq(7), 0);
        let reaction = "+1".to_owned();
        let lines = [
            Body::MessageChanged {
                channel,
                message_id,
                user,
                target,
                text: "a\nb".to_owned(),
                ts_ms,
            },
            Body::MessageDeleted {
                channel,
                message_id,
                user,
                target,
                ts_ms,
            },
            Body::ReactionAdded {
                channel,
                message_id,
                user,
                target,
                reaction: reaction.clone(),
                ts_ms,
            },
            Body::ReactionRemoved {
                channel,
                message_id,
                user,
                target,
                reaction,
                ts_ms,
            },
        ]
        .map(|body| record(PLAIN, &body, |_| "Mary".to_owned()));
        let expected = [
            "00:00 * Mary changed #7: a\n      | b",
            "00:00 * Mary deleted #7",
            "00:00 * Mary gave #7 +1",
            "00:00 * Mary took +1 from #7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn json_is_the_server_frame() {
        let text = json(Seq(7), &message("hi"));
        let frame = hubbub_protocol::ServerFrame::decode(&text).expect("a frame");
        let body = message("hi");
        assert_eq!(
            frame,
            hubbub_protocol::ServerFrame::Record { seq: Seq(7), body }
        );
    }
}
