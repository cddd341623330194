//! A history as lines of text.

use crate::Entry;

/// A line that is no entry.
#[derive(Debug, thiserror::Error)]
#[error("line {line} is no entry of a history: {source}")]
pub struct ParseError {
    /// Which, from 1.
    pub line: u64,
    /// Why.
    source: serde_json::Error,
}

impl Entry {
    /// Reads one line; `line` is its number, from 1, for the error.
    ///
    /// # Errors
    /// If it is not the JSON of an entry.
    pub fn parse(line: u64, text: &str) -> Result<Self, ParseError> {
        serde_json::from_str(text).map_err(|source| ParseError { line, source })
    }

    /// The entry as one line, without the line feed.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("an entry has only keys that are strings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, history::Phase};

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let entry = Entry {
            at_us: 7,
            event: Event::Phase(Phase::Quiet),
        };
        assert_eq!(entry.to_line(), r#"{"at_us":7,"event":{"phase":"quiet"}}"#);
        assert_eq!(Entry::parse(1, &entry.to_line()).expect("its own"), entry);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = Entry::parse(12, r#"{"at_us":7}"#).expect_err("no event");
        assert!(error.to_string().starts_with("line 12 "), "{error}");
    }
}
