//! What a text and a reaction may be.

use crate::limits;

/// Text that no message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing is in it.
    #[error("text is empty")]
    Empty,
    /// It is above [`limits::TEXT_BYTES`].
    #[error("text is longer than {} bytes", limits::TEXT_BYTES)]
    TooLong,
    /// U+0000, which Postgres cannot hold.
    #[error("text has a U+0000")]
    Nul,
}

/// Checks the text of a message: 1 to [`limits::TEXT_BYTES`] bytes, no U+0000.
pub fn check_text(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        Err(TextError::Empty)
    } else if text.len() > limits::TEXT_BYTES {
        Err(TextError::TooLong)
    } else if text.contains('\0') {
        Err(TextError::Nul)
    } else {
        Ok(())
    }
}

/// A reaction that nobody may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reaction has 1 to {} bytes without control characters and white space",
    limits::REACTION_BYTES
)]
pub struct ReactionError;

/// Checks a reaction (an emoji or its name): 1 to [`limits::REACTION_BYTES`] bytes, no control
/// characters, no white space.
pub fn check_reaction(reaction: &str) -> Result<(), ReactionError> {
    let strange = |c: char| c.is_control() || c.is_whitespace();
    if reaction.is_empty() || reaction.len() > limits::REACTION_BYTES || reaction.contains(strange)
    {
        Err(ReactionError)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions_are_short_and_printable() {
        for good in ["+1", "thumbsup", "\u{1F44D}\u{1F3FD}", &"x".repeat(64)] {
            assert_eq!(check_reaction(good), Ok(()), "{good}");
        }
        for bad in ["", " ", "a b", "a\n", "\0", "a\u{2003}", &"x".repeat(65)] {
            assert_eq!(check_reaction(bad), Err(ReactionError), "{bad:?}");
        }
    }
}
