//! What a typed line asks for.
use hubbub_client::Change;
use hubbub_protocol::{Seq, check_reaction};

/// A line on the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Nothing,
    /// To be sent: a message, or a change of one.
    Change(Change),
    /// Who listens now.
    Who,
    /// Who belongs here.
    Members,
    /// Show what can be typed.
    Help,
    /// Cannot be understood, for this reason.
    Wrong(String),
}

pub(super) const HELP: &str = "/who lists who is here, /members the members; /edit N text, \
    /delete N, /react N +1, /unreact N +1 and /reply N text change or answer message #N; /quit or \
    Ctrl-D leaves; a message may start with //";

impl Typed {
    pub(super) fn read(line: &str) -> Self {
        let trimmed = line.trim();
        let Some(command) = trimmed.strip_prefix('/') else {
            return match trimmed {
                "" => Self::Nothing,
                _ => Self::Change(Change::message(line)),
            };
        };
        if command.starts_with('/') {
            return Self::Change(Change::message(command));
        }
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        let result = match word {
            "who" => return Self::Who,
            "members" => return Self::Members,
            "help" => return Self::Help,
            "edit" => about(rest).and_then(|(target, text)| {
                let text = required(text, "the new text")?;
                Ok(Change::Edit { target, text })
            }),
            "delete" => about(rest).map(|(target, _)| Change::Delete { target }),
            "react" | "unreact" => about(rest).and_then(|(target, reaction)| {
                let reaction = required(reaction, "a reaction")?;
                check_reaction(&reaction).map_err(|error| error.to_string())?;
                Ok(Change::React {
                    target,
                    reaction,
                    remove: word == "unreact",
                })
            }),
            "reply" => about(rest).and_then(|(root, text)| {
                let text = required(text, "a text")?;
                let thread = Some(root);
                Ok(Change::Message { text, thread })
            }),
            _ => Err(format!("/{word} is no command: {HELP}")),
        };
        match result {
            Ok(change) => Self::Change(change),
            Err(reason) => Self::Wrong(reason),
        }
    }
}

/// The seq that a command is about, and what follows.
fn about(rest: &str) -> Result<(Seq, &str), String> {
    let rest = rest.trim();
    let (seq, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = seq.strip_prefix('#').unwrap_or(seq).parse().ok().map(Seq);
    match number {
        Some(seq) if seq > Seq::ZERO && seq <= Seq::MAX => Ok((seq, after.trim())),
        _ => Err("which message? Its number stands behind it, as #12".to_owned()),
    }
}

fn required(text: &str, what: &str) -> Result<String, String> {
    if text.is_empty() {
        Err(format!("{what} is missing"))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let message = |text: &str| Typed::Change(Change::message(text));
        let edit = Change::Edit {
            target: Seq(12),
            text: "new text".to_owned(),
        };
        let react = |remove| Change::React {
            target: Seq(12),
            reaction: "+1".to_owned(),
            remove,
        };
        let reply = Change::Message {
            text: "me too".to_owned(),
            thread: Some(Seq(12)),
        };
        for (line, expected) in [
            ("hi there ", message("hi there ")),
            ("//etc", message("/etc")),
            ("  ", Typed::Nothing),
            ("/who", Typed::Who),
            ("/members", Typed::Members),
            ("/help", Typed::Help),
            ("/edit 12 new text", Typed::Change(edit)),
            (
                "/delete #12",
                Typed::Change(Change::Delete { target: Seq(12) }),
            ),
            ("/react #12 +1", Typed::Change(react(false))),
            ("/unreact 12 +1", Typed::Change(react(true))),
            ("/reply 12 me too", Typed::Change(reply)),
        ] {
            assert_eq!(Typed::read(line), expected, "{line}");
        }
        for wrong in [
            "/dance",
            "/edit",
            "/edit x y",
            "/edit 12",
            "/react 12 a b",
            "/delete 0",
        ] {
            assert!(matches!(Typed::read(wrong), Typed::Wrong(_)), "{wrong}");
        }
    }
}
