use super::{Event, Place};

/// A publisher's location answers each message with a few words about the channel.
pub(super) fn event(bytes: &[u8], place: Place) -> Event<'_> {
    if place.publisher {
        Event::Next
    } else {
        Event::Message(bytes)
    }
}
