//! Slack's text as people read it.
use std::collections::HashMap;

use hubbub_protocol::limits;

/// Names of what a text mentions by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) users: HashMap<String, String>,
    pub(super) channels: HashMap<String, String>,
}

/// Turns `<@U1>`, `<#C1|general>`, `<!here>`, `<https://x|label>` and the three entities into what
/// they stand for. The rest, `*bold*` and `:smile:` among it, is readable as it is.
pub(super) fn readable(text: &str, names: &Names) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        unescape(before, &mut out);
        let token = from[1..].find(['<', '>']).map(|end| &from[1..=end]);
        match token {
            Some(token) if from[1 + token.len()..].starts_with('>') && !token.is_empty() => {
                spell(token, names, &mut out);
                rest = &from[token.len() + 2..];
            }
            // No token: Slack escapes a `<` of its users, other writers may not.
            _ => {
                out.push('<');
                rest = &from[1..];
            }
        }
    }
    unescape(rest, &mut out);
    out.retain(|c| c != '\0');
    out
}

/// Slack escapes these three and no others.
fn unescape(text: &str, out: &mut String) {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    out.push_str(&plain.replace("&amp;", "&"));
}

fn spell(token: &str, names: &Names, out: &mut String) {
    let (head, label) = match token.split_once('|') {
        Some((head, label)) if !label.is_empty() => (head, Some(label)),
        Some((head, _)) => (head, None),
        None => (token, None),
    };
    let known = |map: &HashMap<String, String>, id: &str| match map.get(id) {
        Some(name) => name.clone(),
        None => label
            .unwrap_or(id)
            .trim_start_matches(['@', '#'])
            .to_owned(),
    };
    match head.as_bytes() {
        [b'@', ..] => {
            out.push('@');
            out.push_str(&known(&names.users, &head[1..]));
        }
        [b'#', ..] => {
            out.push('#');
            out.push_str(&known(&names.channels, &head[1..]));
        }
        [b'!', ..] => special(&head[1..], label, out),
        [] => unescape(label.unwrap_or_default(), out),
        _ => link(head, label, out),
    }
}

/// `!here`, `!subteam^S1|@writers`, `!date^1392734382^{date}|18 February`.
fn special(head: &str, label: Option<&str>, out: &mut String) {
    let kind = head.split('^').next().unwrap_or_default();
    match (kind, label) {
        ("here" | "channel" | "everyone", _) => {
            out.push('@');
            out.push_str(kind);
        }
        (_, Some(label)) => unescape(label, out),
        ("subteam", None) => {
            out.push('@');
            out.push_str(head.split('^').nth(1).unwrap_or(kind));
        }
        (_, None) => out.push_str(head),
    }
}

fn link(url: &str, label: Option<&str>, out: &mut String) {
    let bare = |text: &'_ str| {
        let schemes = ["mailto:", "tel:", "http://", "https://"];
        let text = schemes
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        text.trim_end_matches('/').to_owned()
    };
    let address = |out: &mut String| {
        let url = ["mailto:", "tel:"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .unwrap_or(url);
        unescape(url, out);
    };
    match label {
        Some(label) if bare(label) != bare(url) => {
            unescape(label, out);
            out.push_str(" (");
            address(out);
            out.push(')');
        }
        _ => address(out),
    }
}

/// Cuts a text into parts that messages may have: at a line's end if there is one in the second
/// half of a part, never inside a character.
pub(super) fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > limits::TEXT_BYTES {
        let fits = rest.floor_char_boundary(limits::TEXT_BYTES);
        let cut = match rest[..fits].rfind('\n') {
            Some(line) if line >= fits / 2 => line + 1,
            _ => fits,
        };
        let (part, after) = rest.split_at(cut);
        parts.push(part.to_owned());
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let map = |id: &str, name: &str| HashMap::from([(id.to_owned(), name.to_owned())]);
        Names {
            users: map("U024BE7LH", "Mary"),
            channels: map("C024BE7LR", "general"),
        }
    }

    #[test]
    fn mentions_and_links_are_readable() {
        for (slack, expected) in [
            ("hi <@U024BE7LH>!", "hi @Mary!"),
            ("<@U024BE7LH|old name> and <@U999|bob>", "@Mary and @bob"),
            ("<@U999>", "@U999"),
            (
                "see <#C024BE7LR|renamed>, <#C9|other>, <#C9>",
                "see #general, #other, #C9",
            ),
            (
                "<!here> <!channel|@channel> <!everyone>",
                "@here @channel @everyone",
            ),
            ("<!subteam^S1|@writers> <!subteam^S2>", "@writers @S2"),
            (
                "<!date^1392734382^{date}^https://x|18 February>",
                "18 February",
            ),
            (
                "<https://example.com/a?b=1&amp;c=2>",
                "https://example.com/a?b=1&c=2",
            ),
            (
                "<https://example.com|the site>",
                "the site (https://example.com)",
            ),
            ("<http://example.com|example.com>", "http://example.com"),
            ("<mailto:a@b.example|a@b.example>", "a@b.example"),
            (
                "<mailto:a@b.example|write to A>",
                "write to A (a@b.example)",
            ),
            ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
            ("&amp;lt; stays", "&lt; stays"),
            ("*bold* _it_ `code` :smile:", "*bold* _it_ `code` :smile:"),
            ("a < b and <", "a < b and <"),
            ("<<@U024BE7LH>>", "<@Mary>"),
            ("<> <|x>", "<> x"),
            ("nul\0", "nul"),
        ] {
            assert_eq!(readable(slack, &names()), expected, "{slack}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_nothing_is_lost() {
        let line = format!("{}\n", "ä".repeat(500));
        for text in [
            String::new(),
            line.clone(),
            line.repeat(50),
            "\u{1F600}".repeat(9_000),
        ] {
            let parts = parts(&text);
            assert_eq!(parts.concat(), text);
            assert!(
                parts
                    .iter()
                    .all(|p| (1..=limits::TEXT_BYTES).contains(&p.len()))
            );
        }
        assert!(parts(&line.repeat(50))[0].ends_with('\n'));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            readable(&text, &names());
            assert_eq!(parts(&text).concat(), text);
        }

        #[test]
        fn marks_of_any_kind_are_read(text in "[<>|@#!^&;a:/]{0,24}") {
            readable(&text, &names());
        }
    }
}
