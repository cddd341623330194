//! What a person does in a channel: says something, or does something to what was said.

use hubbub_client::Change;
use hubbub_protocol::{ChannelId, Seq, UserId};
use rand::{Rng, RngExt};

use crate::{
    board::{Board, Said},
    message,
    writer::{End, Message},
};

/// Of all that somebody with these habits does, in percent; the rest are messages.
const EDITS: u32 = 9;
const DELETIONS: u32 = 4;
const REACTIONS: u32 = 9;
const REPLIES: u32 = 7;
/// Edits and deletions of what others said: the server refuses them.
const FOREIGN: u32 = 2;
/// Reactions that take one back, in percent of them.
const TAKEN_BACK: u32 = 35;
const REACTION_NAMES: [&str; 3] = ["thumbsup", "heart", "eyes"];

/// What somebody does next to a message of a channel: `None`, as most often, if it says something
/// plain instead, or there is nothing to choose from. `n` and `pad` make a text of its own.
pub fn change(
    board: &Board,
    channel: ChannelId,
    user: UserId,
    (n, pad): (u64, &str),
    rng: &mut impl Rng,
) -> Option<Change> {
    let mut die = rng.random_range(0..100);
    let mut is = |percent: u32| {
        let it = die < percent;
        die = die.wrapping_sub(percent);
        it
    };
    let own = |said: &Said| said.user == user;
    let text = || message::compose(n, None, pad);
    if is(EDITS) {
        let target = board.any(channel, own, rng)?.seq;
        let text = text();
        return Some(Change::Edit { target, text });
    }
    if is(DELETIONS) {
        let target = board.any(channel, own, rng)?.seq;
        return Some(Change::Delete { target });
    }
    if is(REACTIONS) {
        let target = board.any(channel, |_| true, rng)?.seq;
        let reaction = REACTION_NAMES[rng.random_range(0..REACTION_NAMES.len())].to_owned();
        let remove = rng.random_range(0..100) < TAKEN_BACK;
        return Some(Change::React {
            target,
            reaction,
            remove,
        });
    }
    if is(REPLIES) {
        let root = board.any(channel, |said| !said.in_thread, rng)?.seq;
        return Some(Change::Message {
            text: text(),
            thread: Some(root),
        });
    }
    if is(FOREIGN) {
        let target = board.any(channel, |said| !own(said), rng)?.seq;
        let text = text();
        return Some(if rng.random_bool(0.5) {
            Change::Edit { target, text }
        } else {
            Change::Delete { target }
        });
    }
    None
}

/// Notes what became of a message, for those who do something to it later.
pub fn note(board: &Board, user: UserId, message: &Message, end: End) {
    if let (Change::Message { thread, .. }, End::Stored(Some(seq))) = (&message.change, end) {
        let in_thread = thread.is_some_and(|root| root > Seq::ZERO);
        let said = Said {
            seq,
            user,
            in_thread,
        };
        board.note(message.channel, said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn every_habit_shows_and_own_messages_are_edited_most() {
        let (board, mut rng) = (Board::default(), SmallRng::seed_from_u64(3));
        let channel: ChannelId = "C000000005".parse().expect("an id");
        let user = |n| UserId::new(n).expect("from 1");
        for (seq, by) in [(1, 1), (2, 2), (3, 1)] {
            let said = Said {
                seq: Seq(seq),
                user: user(by),
                in_thread: seq == 3,
            };
            board.note(channel, said);
        }
        let mut counts = [0; 6];
        for n in 0..10_000 {
            let did = change(&board, channel, user(1), (n, "pad"), &mut rng);
            let at = match did {
                None => 0,
                Some(Change::Edit { target: Seq(2), .. } | Change::Delete { target: Seq(2) }) => 1,
                Some(Change::Edit { .. }) => 2,
                Some(Change::Delete { .. }) => 3,
                Some(Change::React { .. }) => 4,
                Some(Change::Message { thread, .. }) => {
                    assert!(thread.is_some_and(|root| root < Seq(3)), "no reply's reply");
                    5
                }
            };
            counts[at] += 1;
        }
        let [plain, foreign, edits, deletions, reactions, replies] = counts;
        assert!((6_700..7_100).contains(&plain), "{counts:?}");
        assert!(foreign > 100 && deletions > 300, "{counts:?}");
        assert!(
            edits > 750 && reactions > 750 && replies > 550,
            "{counts:?}"
        );
    }
}
