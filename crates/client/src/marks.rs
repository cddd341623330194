use std::{collections::BTreeMap, time::Duration};

use hubbub_protocol::{ChannelId, ErrorBody, Mark, Seq};
use tokio::time::Instant;

/// The marks of one channel are so far apart.
const PER_CHANNEL: Duration = Duration::from_secs(1);
/// Any two marks are so far apart: a client of a thousand channels stays far below the frames that
/// a server takes of a socket.
const ANY_TWO: Duration = Duration::from_millis(50);
/// A server that dies may not have passed on what it took so shortly before.
const UNSURE: Duration = Duration::from_secs(5);

/// How far this device came, and how much of it the server knows. Cursors only grow, so a mark is
/// never queued: the newest is what there is to tell. No I/O.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    channels: BTreeMap<ChannelId, Cursor>,
    /// No mark before then.
    next_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    delivered: Seq,
    read: Seq,
}

#[derive(Debug, Default)]
struct Cursor {
    wanted: Place,
    told: Place,
    /// When the server took `told`.
    told_at: Option<Instant>,
    asked: Option<Place>,
    /// No mark of this channel before then.
    next_at: Option<Instant>,
}

impl Cursor {
    /// When there is something to tell; `None`: there is nothing.
    fn due(&self, now: Instant) -> Option<Instant> {
        let open = self.wanted != self.told && self.asked.is_none();
        open.then(|| self.next_at.unwrap_or(now))
    }
}

impl Marks {
    /// This device came so far.
    pub(crate) fn advance(&mut self, channel: ChannelId, delivered: Seq, read: Seq) {
        let wanted = &mut self.channels.entry(channel).or_default().wanted;
        wanted.read = wanted.read.max(read);
        // What was read was delivered.
        wanted.delivered = wanted.delivered.max(delivered).max(wanted.read);
    }

    /// The next mark to write, if there is one that may be written now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Mark> {
        if self.next_at.is_some_and(|at| at > now) {
            return None;
        }
        let due = |(channel, cursor): (&ChannelId, &Cursor)| match cursor.due(now) {
            Some(at) if at <= now => Some((at, *channel)),
            _ => None,
        };
        let (_, channel) = self.channels.iter().filter_map(due).min()?;
        let cursor = self.channels.get_mut(&channel)?;
        cursor.asked = Some(cursor.wanted);
        cursor.next_at = Some(now + PER_CHANNEL);
        self.next_at = Some(now + ANY_TWO);
        Some(Mark {
            channel,
            delivered: Some(cursor.wanted.delivered),
            read: (cursor.wanted.read > Seq::ZERO).then_some(cursor.wanted.read),
        })
    }

    /// The moment after `now` at which [`Self::next`] may have something that it has not now.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let first = self.channels.values().filter_map(|c| c.due(now)).min()?;
        let due = self.next_at.map_or(first, |at| at.max(first));
        (due > now).then_some(due)
    }

    /// The server answered the mark of this channel.
    pub(crate) fn on_reply(
        &mut self,
        channel: ChannelId,
        result: Result<(), &ErrorBody>,
        now: Instant,
    ) {
        let Some(cursor) = self.channels.get_mut(&channel) else {
            return;
        };
        let Some(asked) = cursor.asked.take() else {
            return;
        };
        match result {
            Ok(()) => {
                cursor.told = cursor.told.max(asked);
                cursor.told_at = Some(now);
            }
            Err(error) if error.retryable => {
                let delay = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
                cursor.next_at = Some(now + delay.max(PER_CHANNEL));
            }
            // No member any more, or above what the server knows: not to be asked again before
            // there is something new to tell.
            Err(error) => {
                tracing::debug!(%channel, error.code = error.code.as_str(), "mark refused");
                cursor.told = asked;
            }
        }
    }

    /// The connection is gone: what was asked, or told a moment ago, is told again.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.next_at = None;
        for cursor in self.channels.values_mut() {
            let recent = cursor.told_at.is_some_and(|at| now - at < UNSURE);
            if recent {
                cursor.told = Place::default();
            }
            cursor.asked = None;
            cursor.next_at = None;
        }
    }

    /// Nothing of this channel is to be told any more.
    pub(crate) fn forget(&mut self, channel: ChannelId) {
        self.channels.remove(&channel);
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::ErrorCode;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn channel(number: i64) -> ChannelId {
        format!("D{number:09}").parse().expect("an id")
    }

    #[test]
    fn newest_cursor_is_told_once_a_second() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        marks.advance(channel(1), Seq(5), Seq::ZERO);
        marks.advance(channel(1), Seq(9), Seq(7));
        let mark = marks.next(start).expect("a mark");
        assert_eq!((mark.delivered, mark.read), (Some(Seq(9)), Some(Seq(7))));
        marks.advance(channel(1), Seq(3), Seq(12));
        assert_eq!(marks.next(start), None);
        marks.on_reply(channel(1), Ok(()), start);
        assert_eq!(marks.next(start), None, "a second has not passed");
        let due = marks.next_due(start).expect("something is left");
        assert_eq!(due, start + PER_CHANNEL);
        let mark = marks.next(due).expect("the rest");
        assert_eq!((mark.delivered, mark.read), (Some(Seq(12)), Some(Seq(12))));
        marks.on_reply(channel(1), Ok(()), due);
        assert_eq!(marks.next_due(due), None);
    }

    #[test]
    fn what_a_dead_server_may_have_lost_is_told_again() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        marks.advance(channel(1), Seq(5), Seq::ZERO);
        marks.next(start).expect("a mark");
        marks.on_reply(channel(1), Ok(()), start);
        marks.disconnected(start + UNSURE);
        assert_eq!(marks.next(start + UNSURE), None, "taken long ago");
        let later = start + UNSURE * 2;
        marks.advance(channel(1), Seq(6), Seq::ZERO);
        marks.next(later).expect("a mark");
        marks.on_reply(channel(1), Ok(()), later);
        marks.disconnected(later);
        assert!(marks.next(later).is_some(), "taken a moment ago");
    }

    #[test]
    fn refused_mark_waits_for_news_and_a_later_one_for_its_time() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        marks.advance(channel(1), Seq(5), Seq::ZERO);
        marks.next(start).expect("a mark");
        let later = ErrorBody::new(ErrorCode::Overloaded, "later").retry_after_ms(3_000);
        marks.on_reply(channel(1), Err(&later), start);
        let due = start + Duration::from_secs(3);
        assert_eq!(marks.next_due(start), Some(due));
        marks.next(due).expect("again");
        let no = ErrorBody::new(ErrorCode::ChannelNotFound, "no");
        marks.on_reply(channel(1), Err(&no), due);
        assert_eq!(marks.next_due(due), None);
        marks.advance(channel(1), Seq(6), Seq::ZERO);
        assert!(marks.next_due(due).is_some());
    }

    proptest! {
        /// Whatever happens, the server ends up with every cursor, and marks keep their distance.
        #[test]
        fn every_cursor_is_told_in_the_end(
            steps in vec((0_u8..5, 1_i64..4, 0_u64..50, 0_u64..50), 1..80),
        ) {
            let (mut marks, mut now) = (Marks::default(), Instant::now());
            let mut wanted: BTreeMap<ChannelId, Place> = BTreeMap::new();
            let mut server: BTreeMap<ChannelId, Place> = BTreeMap::new();
            let mut asked: Vec<Mark> = Vec::new();
            let mut written: Option<Instant> = None;
            for (kind, number, delivered, read) in steps {
                let id = channel(number);
                match kind {
                    0 | 1 => {
                        marks.advance(id, Seq(delivered), Seq(read));
                        let place = wanted.entry(id).or_default();
                        place.read = place.read.max(Seq(read));
                        place.delivered = place.delivered.max(Seq(delivered)).max(place.read);
                    }
                    2 => {
                        if let Some(mark) = marks.next(now) {
                            prop_assert!(written.is_none_or(|at| now - at >= ANY_TWO));
                            written = Some(now);
                            asked.push(mark);
                        }
                    }
                    3 if !asked.is_empty() => {
                        let mark = asked.remove(0);
                        let place = server.entry(mark.channel).or_default();
                        place.delivered = place.delivered.max(mark.delivered.unwrap_or_default());
                        place.read = place.read.max(mark.read.unwrap_or_default());
                        marks.on_reply(mark.channel, Ok(()), now);
                    }
                    _ => {
                        now += Duration::from_millis(delivered * 40);
                        if kind == 4 && read < 5 {
                            marks.disconnected(now);
                            asked.clear();
                            written = None;
                        }
                    }
                }
            }
            marks.disconnected(now);
            for _ in 0..200 {
                while let Some(mark) = marks.next(now) {
                    let place = server.entry(mark.channel).or_default();
                    place.delivered = place.delivered.max(mark.delivered.unwrap_or_default());
                    place.read = place.read.max(mark.read.unwrap_or_default());
                    marks.on_reply(mark.channel, Ok(()), now);
                }
                match marks.next_due(now) {
                    Some(at) => now = at,
                    None => break,
                }
            }
            wanted.retain(|_, place| *place != Place::default());
            prop_assert_eq!(server, wanted);
        }
    }
}
