//! What the writers say: short texts that name themselves and can be checked byte by byte.

use crc::{CRC_32_ISO_HDLC, Crc};
use hubbub_protocol::MessageId;
use rand::{Rng, RngExt};
use uuid::Uuid;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// Of the ids of this suite; any constant does, so long as it stays the same.
const NAMESPACE: Uuid = Uuid::from_u128(0x6875_6262_7562_2d74_6f72_7475_7265_0001);

/// The id of a writer's `n`-th message: the same in every run.
#[must_use]
pub fn id_of(writer: &str, n: u64) -> MessageId {
    let name = format!("{writer}:{n}");
    MessageId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

/// CRC-32 (IEEE) of a text.
#[must_use]
pub fn sum(text: &str) -> u32 {
    CRC.checksum(text.as_bytes())
}

/// The text of a message: its number, the sum of its pad, what it answers, the pad.
#[must_use]
pub fn compose(n: u64, answers: Option<MessageId>, pad: &str) -> String {
    let answers = answers.map(|id| id.to_string()).unwrap_or_default();
    format!("{n} {:08x} re:{answers} {pad}", sum(pad))
}

/// The message that a text answers.
#[must_use]
pub fn answers(text: &str) -> Option<MessageId> {
    let word = text.split(' ').nth(2)?.strip_prefix("re:")?;
    word.parse().ok()
}

/// Letters and digits, so that every byte is one in JSON, too.
pub fn pad(rng: &mut impl Rng, bytes: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        let mut bits: u64 = rng.random();
        for _ in 0..12.min(bytes - text.len()) {
            text.push(char::from(LETTERS[(bits & 31) as usize]));
            bits >>= 5;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn texts_name_what_they_answer() {
        let id = id_of("writer-1.0", 7);
        assert_eq!(answers(&compose(8, Some(id), "abc")), Some(id));
        assert_eq!(answers(&compose(8, None, "abc")), None);
        assert_eq!(answers("hello"), None);
        assert_eq!(compose(8, None, "abc"), "8 352441c2 re: abc");
    }

    #[test]
    fn sum_is_the_usual_crc32() {
        assert_eq!(sum("123456789"), 0xcbf4_3926);
    }

    #[test]
    fn ids_differ_by_writer_and_number_and_repeat() {
        assert_eq!(id_of("writer-1.0", 7), id_of("writer-1.0", 7));
        assert_ne!(id_of("writer-1.0", 7), id_of("writer-1.0", 8));
        assert_ne!(id_of("writer-1.0", 7), id_of("writer-2.0", 7));
    }

    #[test]
    fn pads_have_the_length_asked_for() {
        let mut rng = SmallRng::seed_from_u64(1);
        for bytes in [0, 1, 11, 12, 13, 2_000] {
            let pad = pad(&mut rng, bytes);
            assert_eq!(pad.len(), bytes);
            assert!(pad.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }
}
