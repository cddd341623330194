use std::io::{self, IsTerminal, Write};

use crossterm::style::{Color, Stylize};
use hubbub_protocol::{Body, MessageKey, Seq, UserId, with_seq};

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
    match body {
        Body::Message {
            user, text, ts_ms, ..
        } => {
            let time = style.dim(&time(*ts_ms));
            // Below the text of its first line stands nobody's name: a line cannot pretend to
            // be a message of its own.
            let text = harmless(text).replace('\n', "\n      | ");
            format!("{time} {}  {text}", shown(*user))
        }
        Body::MessageChanged {
            user,
            target,
            text,
            ts_ms,
            ..
        } => {
            let text = harmless(text).replace('\n', "\n      | ");
            let time = style.dim(&time(*ts_ms));
            format!("{time} {} changed {target}: {text}", shown(*user))
        }
        Body::MessageDeleted {
            user,
            target,
            ts_ms,
            ..
        } => {
            let time = style.dim(&time(*ts_ms));
            format!("{time} {} deleted {target}", shown(*user))
        }
        Body::ReactionAdded {
            user,
            target,
            reaction,
            ts_ms,
            ..
        } => {
            let (time, reaction) = (style.dim(&time(*ts_ms)), harmless(reaction));
            format!("{time} {} reacted {reaction} to {target}", shown(*user))
        }
        Body::ReactionRemoved {
            user,
            target,
            reaction,
            ts_ms,
            ..
        } => {
            let (time, reaction) = (style.dim(&time(*ts_ms)), harmless(reaction));
            format!("{time} {} took {reaction} from {target}", shown(*user))
        }
        Body::IdentityChange { user, ts_ms, .. } => {
            let time = style.dim(&time(*ts_ms));
            format!("{time} * {} has another name, picture or status", shown(*user))
        }
        Body::MemberJoined {
            user,
            member,
            ts_ms,
            ..
        } => {
            let by = if user == member {
                " joined".to_owned()
            } else {
                format!(" was added by {}", shown(*user))
            };
            format!("{} * {}{by}", style.dim(&time(*ts_ms)), shown(*member))
        }
        Body::MemberLeft {
            user,
            member,
            ts_ms,
            ..
        } => {
            let by = if user == member {
                " left".to_owned()
            } else {
                format!(" was removed by {}", shown(*user))
            };
            format!("{} * {}{by}", style.dim(&time(*ts_ms)), shown(*member))
        }
    }
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

/// When a record was taken.
pub(crate) fn ts_ms(body: &Body) -> i64 {
    body.ts_ms()
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
fn time(ts_ms: i64) -> String {
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
    use hubbub_protocol::MessageId;
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
