use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A public id that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The first letter is none of those this kind of id may have.
    #[error("an id of this kind starts with {0}")]
    Letter(&'static str),
    /// The rest is not upper-case base 36, zero-padded to 9 digits, from 1 to 2^63-1.
    #[error("after its letter an id has 9 or more digits of upper-case base 36")]
    Digits,
    /// A pod or device id is empty, too long or has other characters than letters, digits, `-_.`.
    #[error("1 to 64 letters, digits or -_. are expected")]
    Name,
    /// A message id is not a UUID (RFC 9562).
    #[error("a UUID is expected")]
    Uuid,
}

/// Runs `f` on a letter and digits, without an allocation: ids are in every frame and every name,
/// several times a message.
fn with_base36<T>(letter: u8, number: i64, f: impl FnOnce(&str) -> T) -> T {
    let mut text = [b'0'; 14];
    let mut rest = number.unsigned_abs();
    let mut at = text.len();
    while rest > 0 || at > text.len() - 9 {
        at -= 1;
        text[at] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(rest % 36) as usize];
        rest /= 36;
    }
    at -= 1;
    text[at] = letter;
    f(std::str::from_utf8(&text[at..]).expect("letters and digits are ASCII"))
}

fn parse_base36(digits: &[u8]) -> Result<i64, IdError> {
    if digits.len() < 9 || digits.len() > 13 || (digits.len() > 9 && digits[0] == b'0') {
        return Err(IdError::Digits);
    }
    let mut number: i64 = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            _ => return Err(IdError::Digits),
        };
        number = number
            .checked_mul(36)
            .and_then(|n| n.checked_add(i64::from(value)))
            .ok_or(IdError::Digits)?;
    }
    if number == 0 {
        Err(IdError::Digits)
    } else {
        Ok(number)
    }
}

/// Gives a type with `with_text` and `FromStr` its `Display` and its serde form: a string.
macro_rules! as_string {
    ($name:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.with_text(|text| f.write_str(text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.with_text(|text| serializer.serialize_str(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", stringify!($name), " as a string"))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

/// The letter of a channel's public id: what kind of conversation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelLetter {
    /// `C`: public or private, with any number of members.
    Channel,
    /// `D`: direct, between two users.
    Direct,
}

/// Public id of a channel: `C000000005` or `D…`; the number is the database id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    /// Kind of conversation, the first character of the public id.
    pub letter: ChannelLetter,
    number: i64,
}

impl ChannelId {
    /// Takes the letter and a database id from 1; `None` below 1.
    pub fn new(letter: ChannelLetter, number: i64) -> Option<Self> {
        (number > 0).then_some(Self { letter, number })
    }

    /// The core database's id, from 1. Channels and direct channels share one sequence, so it is
    /// unique.
    pub fn number(self) -> i64 {
        self.number
    }

    /// `channel_id` in the tables of the shards: the number, negative for a direct channel, so
    /// that the letter, which the log's key and partition depend on, is not lost.
    pub fn shard_key(self) -> i64 {
        match self.letter {
            ChannelLetter::Channel => self.number,
            ChannelLetter::Direct => -self.number,
        }
    }

    /// The channel of a shard's `channel_id`; `None` for 0 and for a value no channel has.
    pub fn from_shard_key(key: i64) -> Option<Self> {
        match key {
            1.. => Self::new(ChannelLetter::Channel, key),
            _ => Self::new(ChannelLetter::Direct, key.checked_neg()?),
        }
    }

    /// What `f` makes of the public id. No allocation, unlike `to_string`.
    pub fn with_text<T>(self, f: impl FnOnce(&str) -> T) -> T {
        let letter = match self.letter {
            ChannelLetter::Channel => b'C',
            ChannelLetter::Direct => b'D',
        };
        with_base36(letter, self.number, f)
    }
}

impl FromStr for ChannelId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (letter, digits) = match text.as_bytes() {
            [b'C', digits @ ..] => (ChannelLetter::Channel, digits),
            [b'D', digits @ ..] => (ChannelLetter::Direct, digits),
            _ => return Err(IdError::Letter("C or D")),
        };
        Ok(Self {
            letter,
            number: parse_base36(digits)?,
        })
    }
}

as_string!(ChannelId);

/// Public id of a user: `U000000001`; the number is the database id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(i64);

impl UserId {
    /// Takes a database id from 1; `None` below 1.
    pub fn new(number: i64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The database id, from 1.
    pub fn number(self) -> i64 {
        self.0
    }

    fn with_text<T>(self, f: impl FnOnce(&str) -> T) -> T {
        with_base36(b'U', self.0, f)
    }
}

impl FromStr for UserId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.as_bytes() {
            [b'U', digits @ ..] => Ok(Self(parse_base36(digits)?)),
            _ => Err(IdError::Letter("U")),
        }
    }
}

as_string!(UserId);

/// Identity of a message: the `client_msg_id` that its sender chose; a retry has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub Uuid);

impl MessageId {
    fn with_text<T>(self, f: impl FnOnce(&str) -> T) -> T {
        f(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IdError::Uuid)
    }
}

as_string!(MessageId);

/// A name of 1 to 64 letters, digits, `-`, `_` or `.`: safe in a Redis key, a metric and a log.
macro_rules! short_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn with_text<T>(&self, f: impl FnOnce(&str) -> T) -> T {
                f(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
                if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
                    return Err(IdError::Name);
                }
                Ok(Self(text.into()))
            }
        }

        as_string!($name);
    };
}

short_name!(
    /// Id of one process that answers on the bus: an edge (a pod) or an API server.
    PodId
);
short_name!(
    /// Id of one of a user's clients.
    DeviceId
);

/// Position of a record in its channel: Kafka offset + 1 + the log's base. From 1, strictly
/// increasing within a channel, not contiguous. 0 stands for "nothing yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first record.
    pub const ZERO: Self = Self(0);
    /// The largest seq: every JSON reader holds integers up to 2^53 - 1 exactly (RFC 8259, 6).
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The seq as a Postgres `bigint`; a seq is at most [`Seq::MAX`], so nothing is lost.
    pub fn to_db(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// A Postgres `bigint` as a seq; negative values, which no table holds, become 0.
    pub fn from_db(value: i64) -> Self {
        Self(u64::try_from(value).unwrap_or(0))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_padded_to_nine_digits() {
        let id = ChannelId::new(ChannelLetter::Channel, 5).expect("from 1");
        assert_eq!(id.to_string(), "C000000005");
        assert_eq!(UserId::new(36).expect("from 1").to_string(), "U000000010");
    }

    #[test]
    fn shard_key_keeps_the_letter() {
        let [channel, direct] = ["C000000005", "D000000005"]
            .map(|text| text.parse::<ChannelId>().expect("an id").shard_key());
        assert_eq!((channel, direct), (5, -5));
        assert_eq!(ChannelId::from_shard_key(0), None);
        assert_eq!(ChannelId::from_shard_key(i64::MIN), None);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "C",
            "C00000005",
            "c000000005",
            "X000000005",
            "C000000000",
            "C0000000005",
            "C00000000a",
            "C00000000-",
            "CZZZZZZZZZZZZZZ",
            "CZZZZZZZZZZZZZ",
            "U000000005",
        ] {
            assert!(text.parse::<ChannelId>().is_err(), "{text}");
        }
        for text in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_survive_their_text(number in 1..=i64::MAX, direct: bool) {
            let letter = if direct { ChannelLetter::Direct } else { ChannelLetter::Channel };
            let id = ChannelId::new(letter, number).expect("from 1");
            prop_assert_eq!(id.to_string().parse::<ChannelId>(), Ok(id));
            prop_assert_eq!(ChannelId::from_shard_key(id.shard_key()), Some(id));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text: String) {
            let ok = text.parse::<UserId>().map(|id| id.to_string());
            if let Ok(back) = ok { prop_assert_eq!(back, text); }
        }
    }
}
