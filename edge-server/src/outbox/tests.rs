use hubbub_protocol::synced_frame;
use proptest::prelude::*;

use super::*;

fn channel(n: i64) -> ChannelId {
    ChannelId::new(hubbub_protocol::ChannelLetter::Channel, n).expect("from 1")
}

fn set_synced(outbox: &mut Outbox, channel: ChannelId, seq: Seq) {
    let frame = text_frame(synced_frame(channel, seq).as_bytes());
    outbox.set_synced(channel, seq, &frame);
}

fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while !outbox.is_empty() {
        let taken = {
            let mut slices = Outbox::empty_slices();
            let used = outbox.slices(&mut slices);
            let flat: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|s| s.iter().copied())
                .take(step)
                .collect();
            seen.extend_from_slice(&flat);
            flat.len()
        };
        outbox.advance(taken);
    }
    seen
}

#[test]
fn full_outbox_refuses_and_keeps_what_it_has() {
    let mut outbox = Outbox::default();
    let frame = Bytes::from(vec![1; 10_000]);
    let taken = (0..1_000)
        .filter(|_| outbox.offer_record(channel(1), &frame))
        .count();
    assert_eq!(taken, OUTBOX_BYTES / 10_000);
    assert!(outbox.bytes() <= OUTBOX_BYTES);
    assert_eq!(drain(&mut outbox, 777).len(), taken * 10_000);
    assert!(outbox.under_half() && outbox.offer_record(channel(1), &frame));
}

#[test]
fn outbox_with_a_close_frame_has_no_room() {
    let mut outbox = Outbox::default();
    outbox.push_close(Bytes::from_static(b"close"));
    assert!(!outbox.under_half());
    assert!(!outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
    set_synced(&mut outbox, channel(1), Seq(1));
    outbox.flush_synced();
    assert_eq!(drain(&mut outbox, 100), b"close");
}

#[test]
fn forsaken_outbox_gives_replies_alone_and_takes_no_record() {
    let mut outbox = Outbox::default();
    outbox.push_control(Bytes::from_static(b"reply"));
    assert!(!outbox.forsake(), "nothing was dropped");
    assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"begun")));
    outbox.advance(b"replybe".len());
    assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"whole")));
    set_synced(&mut outbox, channel(1), Seq(2));
    outbox.flush_synced();
    assert!(outbox.forsake());
    assert!(!outbox.offer_record(channel(2), &Bytes::from_static(b"more")));
    set_synced(&mut outbox, channel(2), Seq(9));
    outbox.flush_synced();
    outbox.push_close(Bytes::from_static(b"close"));
    assert_eq!(drain(&mut outbox, 100), b"gunclose");
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn synced_goes_behind_what_waits_and_only_the_newest() {
    let mut outbox = Outbox::default();
    set_synced(&mut outbox, channel(1), Seq(3));
    assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
    set_synced(&mut outbox, channel(1), Seq(5));
    outbox.flush_synced();
    let text = String::from_utf8_lossy(&drain(&mut outbox, 7)).into_owned();
    assert!(text.starts_with("record"), "{text}");
    assert!(
        text.contains("\"seq\":5") && !text.contains("\"seq\":3"),
        "{text}"
    );
}

#[test]
fn synced_rides_once_a_tick_on_records_and_at_once_on_a_reply() {
    let mut outbox = Outbox::default();
    let record = Bytes::from_static(b"record");
    set_synced(&mut outbox, channel(1), Seq(1));
    assert!(outbox.offer_record(channel(1), &record));
    assert!(!outbox.synced_rides(), "not with each record");
    outbox.make_synced_due();
    assert!(outbox.synced_rides() && outbox.synced_overdue());
    outbox.flush_synced();
    drain(&mut outbox, 1_000);
    set_synced(&mut outbox, channel(1), Seq(2));
    assert!(outbox.offer_record(channel(1), &record));
    assert!(!outbox.synced_rides(), "one has ridden");
    assert!(!outbox.synced_overdue());
    outbox.push_control(Bytes::from_static(b"reply"));
    assert!(outbox.synced_rides());
    // Nothing to ride on: due at one tick, it has its own write at the next.
    let mut quiet = Outbox::default();
    set_synced(&mut quiet, channel(1), Seq(3));
    assert!(!quiet.synced_overdue());
    quiet.make_synced_due();
    assert!(quiet.synced_overdue());
}

#[test]
fn purge_takes_the_synced_that_speaks_of_what_it_takes() {
    let mut outbox = Outbox::default();
    assert!(outbox.offer_record(channel(1), &Bytes::from_static(b"record")));
    set_synced(&mut outbox, channel(1), Seq(5));
    set_synced(&mut outbox, channel(2), Seq(7));
    outbox.flush_synced();
    outbox.purge(channel(1));
    let text = String::from_utf8_lossy(&drain(&mut outbox, 7)).into_owned();
    assert!(
        text.contains("\"seq\":7") && !text.contains("\"seq\":5"),
        "{text}"
    );
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn room_is_kept_while_it_is_used_and_given_back_after() {
    let mut outbox = Outbox::default();
    let frame = Bytes::from_static(b"record");
    let burst = |outbox: &mut Outbox| {
        while outbox.offer_record(channel(1), &frame) {}
        set_synced(outbox, channel(1), Seq(1));
        outbox.flush_synced();
        drain(outbox, 1_000);
    };
    burst(&mut outbox);
    let room = outbox.entries.capacity();
    assert!(room >= OUTBOX_FRAMES);
    outbox.rest();
    burst(&mut outbox);
    outbox.rest();
    assert_eq!(outbox.entries.capacity(), room, "it was used since");
    outbox.rest();
    assert_eq!(
        (outbox.entries.capacity(), outbox.synced.capacity()),
        (0, 0)
    );
    assert!(outbox.offer_record(channel(1), &frame));
    outbox.rest();
    outbox.rest();
    assert_eq!(drain(&mut outbox, 1_000), b"record", "what waits is kept");
}

#[test]
fn presence_waits_for_room_with_the_newest_of_each_user() {
    use hubbub_protocol::{PresenceState, UserId};
    let presence = |n, state| UserPresence {
        user: UserId::new(n).expect("from 1"),
        state,
    };
    let mut outbox = Outbox::default();
    outbox.push_control(Bytes::from(vec![b'x'; CONTROL_BYTES]));
    for _ in 0..1_000 {
        for n in 1..4 {
            outbox.tell(presence(n, PresenceState::Active));
            outbox.tell(presence(n, PresenceState::Away));
        }
    }
    assert_eq!(outbox.bytes(), CONTROL_BYTES, "nothing was queued");
    assert_eq!(outbox.held.len(), 3);
    outbox.advance(CONTROL_BYTES);
    outbox.flush_held();
    let text = String::from_utf8_lossy(&drain(&mut outbox, 9)).into_owned();
    assert_eq!(text.matches("away").count(), 3, "{text}");
    assert!(!text.contains("active"), "{text}");
    outbox.tell(presence(1, PresenceState::Offline));
    let text = String::from_utf8_lossy(&drain(&mut outbox, 9)).into_owned();
    assert!(text.contains("offline"), "{text}");
}

fn burst(lengths: &[usize]) -> Burst {
    let frames = lengths.iter().enumerate().map(|(at, length)| {
        let letter = char::from(b'a' + at as u8).to_string();
        text_frame(letter.repeat(*length).as_bytes())
    });
    let mut burst = Burst::default();
    burst.fill(frames);
    burst
}

#[test]
fn burst_is_taken_as_its_frames_would_be_one_by_one() {
    let lengths: Vec<usize> = (0..40).map(|at| at * 37 % 2_000 + 1).collect();
    let burst = burst(&lengths);
    for before in [0, 1, OUTBOX_FRAMES - 40, OUTBOX_FRAMES - 7, OUTBOX_FRAMES] {
        for length in [1, 4_000] {
            let (mut alone, mut together) = (Outbox::default(), Outbox::default());
            for outbox in [&mut alone, &mut together] {
                let frame = Bytes::from(vec![0; length]);
                (0..before).for_each(|_| {
                    outbox.offer_record(channel(2), &frame);
                });
            }
            let frames = burst.frames().iter();
            let one_by_one = frames.take_while(|f| alone.offer_record(channel(1), f));
            let taken = one_by_one.count();
            assert_eq!(together.offer_burst(channel(1), &burst), taken);
            assert_eq!(together.bytes(), alone.bytes());
            assert_eq!(together.under_half(), alone.under_half());
            assert_eq!(drain(&mut together, 999), drain(&mut alone, 999));
            assert_eq!((together.record_frames, together.bytes()), (0, 0));
        }
    }
}

#[test]
fn purge_leaves_of_a_burst_what_the_kernel_has_begun() {
    let burst = burst(&[3, 200, 1, 70_000, 5]);
    let all = burst.frames().concat();
    for written in 0..all.len().min(300) {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer_burst(channel(1), &burst), 5);
        outbox.push_control(Bytes::from_static(b"reply"));
        outbox.advance(written);
        outbox.purge(channel(1));
        let mut begun = 0;
        for frame in burst.frames() {
            if begun < written {
                begun += frame.len();
            }
        }
        let rest = [&all[written..begun], b"reply"].concat();
        assert_eq!(drain(&mut outbox, 999), rest, "{written} written");
        assert_eq!((outbox.record_frames, outbox.bytes()), (0, 0));
    }
}

#[test]
fn nothing_follows_a_close_frame() {
    let mut outbox = Outbox::default();
    outbox.push_close(Bytes::from_static(b"close"));
    outbox.push_control(Bytes::from_static(b"late"));
    set_synced(&mut outbox, channel(1), Seq(1));
    outbox.flush_synced();
    assert!(!outbox.offer_record(channel(1), &Bytes::from_static(b"late")));
    assert_eq!(drain(&mut outbox, 100), b"close");
}

proptest! {
    #[test]
    fn purge_removes_one_channel_and_never_half_a_frame(
        plan in prop::collection::vec((1_i64..4, 1_usize..40), 1..40),
        written in 0_usize..50,
    ) {
        let mut outbox = Outbox::default();
        let mut frames = Vec::new();
        for (n, length) in plan {
            let bytes = Bytes::from(vec![n as u8; length]);
            prop_assert!(outbox.offer_record(channel(n), &bytes));
            frames.push((n, length));
        }
        let total: usize = frames.iter().map(|(_, l)| l).sum();
        let written = written.min(total.saturating_sub(1));
        outbox.advance(written);
        outbox.purge(channel(2));
        let rest = drain(&mut outbox, 13);
        let (mut expected, mut skip) = (Vec::new(), written);
        for (n, length) in frames {
            if skip >= length {
                skip -= length;
            } else {
                if n != 2 || skip > 0 {
                    expected.extend(std::iter::repeat_n(n as u8, length - skip));
                }
                skip = 0;
            }
        }
        prop_assert_eq!(rest, expected);
        prop_assert_eq!(outbox.bytes(), 0);
    }
}
