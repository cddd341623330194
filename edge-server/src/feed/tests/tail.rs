//! Pages from memory.

use super::*;
use crate::feed::{limits::TailBounds, tail::cost};

/// With the horizon at `head`, pages of two rows, and a tail of so many rows.
fn stage(head: u64, rows: usize) -> Stage {
    let mut stage = Stage::new(1_000);
    stage.feed = Feed::new(channel(), bounded(rows, 10_000, 10_000));
    stage.feed.subscribed(&mut stage.out);
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(head))));
    stage
}

fn bounded(rows: usize, bytes: usize, all_bytes: u64) -> Limits {
    let tail = TailBounds {
        rows,
        bytes,
        all_bytes,
    };
    Limits::with(1_000, 2, 16, 5_000, tail)
}

/// The store has these rows, all above the horizon.
fn advance(stage: &mut Stage, seqs: &[u64]) {
    let from = stage.feed.horizon().expect("known").0;
    for seq in seqs {
        stage.message(frame(*seq));
    }
    let through = *seqs.last().expect("some");
    stage.stored(from, through, Some(seqs));
    assert_eq!(stage.request(), None);
}

fn tail(stage: &Stage) -> (u64, Vec<u64>) {
    let (from, rows) = stage.feed.tail_rows();
    (from.0, rows.map(|row| row.seq.0).collect())
}

#[test]
fn who_lacks_only_what_the_feed_saw_is_served_without_the_store() {
    let mut stage = stage(4, 9);
    advance(&mut stage, &[5, 7, 8]);
    stage.message(frame(11));
    stage.join(A, Some(4));
    assert_eq!(stage.out.take(A), "", "not before it is served");
    assert_eq!(stage.request(), None);
    let given = "joined 8, replay 4, 5, 7, synced 7, 8, synced 8, 11";
    assert_eq!(stage.out.take(A), given);
    stage.message(frame(12));
    assert_eq!(stage.out.take(A), "12", "attached");
    assert_eq!(stage.feed.take_counts().pages_from_memory, 2);
}

#[test]
fn deletion_empties_what_may_hold_the_text() {
    let mut stage = stage(4, 9);
    advance(&mut stage, &[5, 7]);
    let deletion = Frame {
        bytes: crate::wire::text_frame(br#"{"seq":8,"type":"message_deleted"}"#),
        ..frame(8)
    };
    stage.message(deletion);
    stage.stored(7, 8, Some(&[8]));
    assert_eq!(tail(&stage), (8, vec![]));
    stage.join(A, Some(4));
    stage.answer(range(4, 8), rows(&[5]));
    advance(&mut stage, &[9]);
    assert_eq!(tail(&stage), (4, vec![5, 9]), "read since then");
}

#[test]
fn second_with_the_same_cursor_or_a_higher_one_asks_nothing() {
    let mut stage = stage(9, 9);
    stage.join(A, Some(5));
    stage.answer(range(5, 9), rows(&[8]));
    assert_eq!(stage.out.take(A), "joined 9, replay 5, 8, synced 9");
    advance(&mut stage, &[12]);
    stage.join(A, Some(5));
    stage.join(B, Some(8));
    assert_eq!(stage.request(), None);
    assert_eq!(
        stage.out.take(A),
        "12, synced 12, joined 12, replay 5, 8, 12, synced 12"
    );
    assert_eq!(stage.out.take(B), "joined 12, replay 8, 12, synced 12");
    stage.join(B, Some(3));
    stage.answer(range(3, 12), rows(&[4, 5]));
    assert_eq!(stage.request(), None, "the rest is in memory");
    assert_eq!(
        stage.out.take(B),
        "joined 12, replay 3, 4, 5, synced 5, 8, 12, synced 12"
    );
}

#[test]
fn page_near_the_horizon_begins_as_low_as_it_is_sure_to_hold_all() {
    let mut stage = stage(9, 9);
    let tail = stage.feed.limits.tail();
    stage.feed = Feed::new(channel(), Limits::with(1_000, 6, 16, 5_000, tail));
    stage.feed.subscribed(&mut stage.out);
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(9))));
    stage.join(A, Some(8));
    let page = stage.request().expect("a page");
    let ask = Ask::Range {
        from: Seq(4),
        through: Seq(9),
        limit: 6,
    };
    assert_eq!(page.ask, ask);
    stage.answer_to(&page, rows(&[5, 6, 7, 8, 9]));
    assert_eq!(stage.out.take(A), "joined 9, replay 8, 9, synced 9");
    stage.join(B, Some(6));
    assert_eq!(stage.request(), None);
    assert_eq!(stage.out.take(B), "joined 9, replay 6, 7, 8, 9, synced 9");
}

#[test]
fn page_that_ends_below_the_tail_is_not_kept() {
    let mut stage = stage(9, 9);
    stage.join(A, Some(3));
    stage.answer(range(3, 9), rows(&[4, 5]));
    assert_eq!(tail(&stage), (9, vec![]));
    stage.answer(range(5, 9), rows(&[7]));
    assert_eq!(tail(&stage), (5, vec![7]));
}

#[test]
fn outbox_and_its_room_bound_what_is_given_from_memory() {
    let mut stage = stage(4, 9);
    advance(&mut stage, &[5, 6, 7]);
    stage.out.room.insert(A, 1);
    stage.join(A, Some(4));
    assert_eq!(stage.request(), None);
    assert_eq!(stage.out.take(A), "joined 7, replay 4, 5, synced 5");
    // Meanwhile it shows nothing live.
    advance(&mut stage, &[9]);
    stage.room(A, 9);
    assert_eq!(stage.request(), None);
    assert_eq!(stage.out.take(A), "6, 7, synced 7, 9, synced 9");
    stage.out.closing = Some(B);
    stage.join(B, Some(4));
    assert_eq!(stage.request(), None, "not without end");
}

#[test]
fn store_away_loses_nobody_whose_rows_are_in_memory() {
    let mut stage = stage(4, 9);
    advance(&mut stage, &[6]);
    stage.feed.subscribed(&mut stage.out);
    stage.answer(Ask::Head, away());
    stage.join(A, Some(4));
    stage.join(B, Some(3));
    assert_eq!(stage.request(), None);
    assert_eq!(stage.out.take(A), "joined 6, replay 4, 6, synced 6");
    assert_eq!(stage.out.take(B), "lost 6, replay 6, synced 6");
}

#[test]
fn bounds_hold_and_what_is_dropped_is_asked_for() {
    let mut stage = stage(4, 2);
    advance(&mut stage, &[5, 6]);
    assert_eq!(tail(&stage), (4, vec![5, 6]));
    advance(&mut stage, &[8]);
    assert_eq!(tail(&stage), (5, vec![6, 8]));
    stage.join(A, Some(4));
    stage.answer(range(4, 8), rows(&[5, 6]));
    assert_eq!(stage.request(), None);
    assert_eq!(
        stage.out.take(A),
        "joined 8, replay 4, 5, 6, synced 6, 8, synced 8"
    );
    assert_eq!(tail(&stage), (5, vec![6, 8]), "no room below");
}

#[test]
fn bytes_are_bounded_for_a_feed_and_for_all() {
    let row = cost(&frame(5));
    let limits = bounded(9, 2 * row, 3 * row as u64);
    let mut stages = [(); 2].map(|()| {
        let mut stage = Stage::at(4);
        stage.feed = Feed::new(channel(), limits.clone());
        stage.feed.subscribed(&mut stage.out);
        stage.answer(Ask::Head, Ok(Answer::Head(Seq(4))));
        advance(&mut stage, &[5, 6, 8]);
        stage
    });
    assert_eq!(tail(&stages[0]), (5, vec![6, 8]));
    assert_eq!(tail(&stages[1]), (6, vec![8]));
    assert_eq!(limits.tail_bytes_used(), 3 * row as u64);
    let mut large = frame(9);
    large.bytes = vec![b'9'; 2 * row].into();
    let [first, second] = &mut stages;
    first.message(large);
    first.stored(8, 9, Some(&[9]));
    assert_eq!(tail(first), (9, vec![]));
    advance(second, &[9]);
    assert_eq!(tail(second), (6, vec![8, 9]), "there is room again");
    drop(stages);
    assert_eq!(limits.tail_bytes_used(), 0);
}
