//! The feed's rules, one example each; the model tries them in all combinations.

use hubbub_protocol::{Seq, Stored};

use super::{Answer, Ask, Feed, Frame, Horizon, Limits, SocketId, Sweeper};

mod stage;
mod tail;

use self::stage::{A, B, Stage, Wire, away, channel, copy, frame, limits, range, rows};

#[test]
fn head_is_read_after_the_confirmation_and_after_each_one() {
    let mut stage = Stage::new(1_000);
    stage.join(A, None);
    assert_eq!(stage.request(), None);
    stage.feed.subscribed(&mut stage.out);
    let early = stage.request().expect("a head read");
    stage.feed.subscribed(&mut stage.out);
    assert_eq!(stage.request(), None, "one request at a time");
    stage.answer_to(&early, Ok(Answer::Head(Seq(4))));
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(7))));
    stage.answer(range(4, 7), rows(&[6]));
    assert_eq!(stage.feed.horizon(), Some(Seq(7)));
    assert_eq!(stage.request(), None);
    assert_eq!(
        stage.out.take(A),
        "joined 4, replay 4, synced 4, 6, synced 7"
    );
}

#[test]
fn live_message_is_given_once() {
    let mut stage = Stage::at(4);
    stage.join(A, None);
    stage.out.take(A);
    assert!(stage.message(frame(6)));
    assert!(!stage.message(frame(6)), "in recent");
    assert!(!stage.message(frame(4)), "at the horizon");
    assert!(!stage.message(copy(8, 6)), "a copy");
    stage.stored(4, 8, Some(&[6]));
    assert!(!stage.message(frame(6)), "below the horizon");
    assert_eq!(stage.out.take(A), "6, synced 8");
    assert_eq!(stage.request(), None);
}

#[test]
fn burst_is_given_as_one_by_one() {
    let frames = [frame(6), frame(5), frame(6), frame(4), frame(8), copy(9, 6)];
    // Of whoever has room for so many frames, and is given more later.
    let play = |room: usize, give: fn(&mut Stage, &[Frame]) -> usize| {
        let mut stage = Stage::at(4);
        stage.join(A, None);
        stage.join(B, None);
        stage.out.room.insert(A, room);
        assert_eq!(give(&mut stage, &frames), 3, "6, 5 and 8 are new");
        let mut got = vec![stage.out.take(A), stage.out.take(B)];
        stage.room(A, 10);
        stage.stored(4, 8, Some(&[5, 6, 8]));
        while let Some(request) = stage.request() {
            let rows = [frame(5), frame(6), frame(8)];
            let Ask::Range {
                from,
                through,
                limit,
            } = request.ask
            else {
                panic!("not a page: {request:?}");
            };
            let within = |row: &Frame| from < row.seq && row.seq <= through;
            let rows = rows.into_iter().filter(within).take(limit);
            let answer = Answer::Rows(rows.collect());
            stage.answer_to(&request, Ok(answer));
        }
        got.extend([stage.out.take(A), stage.out.take(B)]);
        got
    };
    for room in 0..=3 {
        let alone = play(room, |stage, frames| {
            let given = frames.iter().map(|frame| stage.message(frame.clone()));
            given.filter(|new| *new).count()
        });
        let burst = play(room, |stage, frames| {
            stage.feed.messages(frames, &mut stage.out)
        });
        assert_eq!(alone, burst, "with room for {room}");
    }
}

#[test]
fn ordered_socket_gets_rows_in_their_order() {
    let mut stage = Stage::at(4);
    stage.join_ordered(A);
    stage.join(B, None);
    stage.out.take(B);
    stage.message(frame(7));
    stage.message(frame(6));
    assert_eq!(stage.out.take(A), "joined 4, replay 4, synced 4");
    stage.stored(4, 7, Some(&[6, 7]));
    assert_eq!(stage.out.take(A), "6, 7, synced 7");
    assert_eq!(stage.out.take(B), "7, 6, synced 7");
}

#[test]
fn missing_row_is_fetched_and_given_before_synced() {
    let mut stage = Stage::at(4);
    stage.join(A, None);
    stage.out.take(A);
    stage.message(frame(6));
    stage.stored(4, 7, Some(&[5, 6, 7]));
    let request = stage.request().expect("a fetch");
    assert_eq!(request.ask, Ask::Rows(vec![Seq(5), Seq(7)]));
    // It comes by itself meanwhile: what to give is decided at the answer.
    stage.message(frame(7));
    stage.answer_to(&request, rows(&[5, 7]));
    assert_eq!(stage.out.take(A), "6, 7, 5, synced 7");
}

#[test]
fn listed_row_that_is_not_there_is_asked_again() {
    let mut stage = Stage::at(4);
    stage.stored(4, 6, Some(&[5, 6]));
    stage.answer(Ask::Rows(vec![Seq(5), Seq(6)]), rows(&[5]));
    assert_eq!(stage.feed.horizon(), Some(Seq(4)));
    assert_eq!(stage.request(), None);
    stage.now_ms = stage.feed.next_due_ms().expect("again");
    stage.answer(Ask::Rows(vec![Seq(5), Seq(6)]), rows(&[5, 6]));
    assert_eq!(stage.feed.horizon(), Some(Seq(6)));
}

#[test]
fn announcement_that_starts_above_the_horizon_is_fetched_as_a_range_in_pages() {
    let mut stage = Stage::at(4);
    stage.join(A, None);
    stage.out.take(A);
    stage.stored(6, 9, Some(&[9]));
    stage.answer(range(4, 9), rows(&[5, 6]));
    // From here on the list covers the rest.
    stage.answer(Ask::Rows(vec![Seq(9)]), rows(&[9]));
    assert_eq!(stage.out.take(A), "5, 6, synced 6, 9, synced 9");
    stage.stored(4, 6, Some(&[5, 6]));
    assert_eq!(stage.feed.horizon(), Some(Seq(9)), "never goes back");
    assert_eq!(stage.request(), None);
}

#[test]
fn fifth_announcement_makes_one_range() {
    let mut stage = Stage::at(4);
    for from in [9, 8, 7, 6, 5] {
        stage.stored(from, from + 1, Some(&[from + 1]));
    }
    stage.answer(range(4, 10), rows(&[6, 7]));
    stage.answer(range(7, 10), rows(&[]));
    assert_eq!(stage.feed.horizon(), Some(Seq(10)));
    assert_eq!(stage.feed.take_counts().merged, 1);
}

#[test]
fn row_is_given_though_its_id_is_known() {
    let mut stage = Stage::at(4);
    stage.join(A, None);
    stage.out.take(A);
    stage.message(copy(6, 5));
    stage.stored(4, 5, Some(&[5]));
    stage.answer(Ask::Rows(vec![Seq(5)]), rows(&[5]));
    assert_eq!(stage.out.take(A), "6, 5, synced 5");
    // The copy is gone from what later sockets are given.
    stage.join(B, None);
    assert_eq!(stage.out.take(B), "joined 5, replay 5, synced 5");
}

#[test]
fn frame_past_the_bound_is_fetched_for_those_that_came_later() {
    let mut stage = Stage::at(4);
    stage.feed = Feed::new(channel(), limits(1));
    stage.feed.subscribed(&mut stage.out);
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(4))));
    stage.join(A, None);
    stage.message(frame(5));
    stage.message(frame(6));
    stage.join(B, None);
    stage.stored(4, 6, Some(&[5, 6]));
    stage.answer(Ask::Rows(vec![Seq(6)]), rows(&[6]));
    let given = "joined 4, replay 4, synced 4, 5, 6, synced 6";
    assert_eq!(stage.out.take(A), given);
    assert_eq!(
        stage.out.take(B),
        "joined 4, replay 4, 5, synced 4, 6, synced 6"
    );
}

#[test]
fn join_with_a_cursor_reads_pages_and_is_handed_what_is_live() {
    let mut stage = Stage::at(9);
    stage.message(frame(12));
    stage.message(frame(10));
    stage.join(A, Some(3));
    assert_eq!(stage.out.take(A), "", "the reply goes with the first page");
    stage.answer(range(3, 9), rows(&[5, 6]));
    stage.message(frame(11));
    assert_eq!(stage.out.take(A), "joined 9, replay 3, 5, 6, synced 6");
    stage.answer(range(6, 9), rows(&[8]));
    assert_eq!(stage.out.take(A), "8, synced 9, 12, 10, 11");
    stage.message(frame(13));
    assert_eq!(stage.out.take(A), "13");
}

#[test]
fn readers_share_pages_and_no_cursor_goes_back() {
    let mut stage = Stage::at(9);
    stage.join(A, Some(3));
    let page = stage.request().expect("a page");
    stage.join(B, Some(5));
    let c = SocketId(3);
    stage.join(c, Some(7));
    stage.answer_to(&page, rows(&[5, 6]));
    assert_eq!(stage.out.take(A), "joined 9, replay 3, 5, 6, synced 6");
    assert_eq!(stage.out.take(B), "joined 9, replay 5, 6, synced 6");
    assert_eq!(stage.out.take(c), "");
    stage.answer(range(6, 9), rows(&[8]));
    for socket in [A, B] {
        assert_eq!(stage.out.take(socket), "8, synced 9");
    }
    assert_eq!(stage.out.take(c), "joined 9, replay 7, 8, synced 9");
}

#[test]
fn page_ends_where_the_outbox_is_full() {
    let mut stage = Stage::at(9);
    stage.out.room.insert(A, 1);
    stage.join(A, Some(3));
    stage.answer(range(3, 9), rows(&[5, 6]));
    assert_eq!(stage.out.take(A), "joined 9, replay 3, 5, synced 5");
    assert_eq!(stage.request(), None, "no page without room");
    stage.room(A, 9);
    stage.answer(range(5, 9), rows(&[6, 8]));
    assert_eq!(stage.out.take(A), "6, 8, synced 8");
    stage.answer(range(8, 9), rows(&[]));
    assert_eq!(stage.out.take(A), "synced 9");
}

#[test]
fn closing_socket_asks_for_no_page_without_end() {
    let mut stage = Stage::at(9);
    stage.out.closing = Some(A);
    stage.join(A, Some(3));
    stage.answer(range(3, 9), rows(&[5, 6]));
    assert_eq!(stage.request(), None);
    stage.out.closing = None;
    stage.room(A, 9);
    stage.answer(range(3, 9), rows(&[5, 6]));
    let given = "joined 9, replay 3, synced 3, 5, 6, synced 6";
    assert_eq!(stage.out.take(A), given);
}

#[test]
fn refused_frame_detaches_and_is_given_again_under_half() {
    let mut stage = Stage::at(4);
    stage.out.room.insert(A, 1);
    stage.join(A, None);
    stage.out.take(A);
    stage.message(frame(6));
    stage.message(frame(8));
    stage.message(frame(7));
    assert_eq!(stage.out.take(A), "6, replay 4");
    stage.room(A, 1);
    assert_eq!(stage.out.take(A), "8", "in order of arrival");
    stage.stored(4, 8, Some(&[6, 7, 8]));
    assert_eq!(stage.out.take(A), "", "a reader gets no synced of the feed");
    stage.room(A, 9);
    stage.answer(range(4, 8), rows(&[6, 7]));
    assert_eq!(stage.out.take(A), "replay 4, 6, 7, synced 7");
    stage.answer(range(7, 8), rows(&[8]));
    assert_eq!(stage.out.take(A), "8, synced 8");
    assert_eq!(stage.feed.take_counts().detached, 1);
}

#[test]
fn refused_row_of_a_repair_detaches_at_the_old_horizon() {
    let mut stage = Stage::at(4);
    stage.out.room.insert(A, 1);
    stage.join_ordered(A);
    stage.out.take(A);
    stage.stored(4, 6, Some(&[5, 6]));
    stage.answer(Ask::Rows(vec![Seq(5), Seq(6)]), rows(&[5, 6]));
    assert_eq!(stage.out.take(A), "5, replay 4");
}

#[test]
fn cursor_above_the_head_is_lost_only_after_a_head_read_of_its_own() {
    let mut stage = Stage::at(4);
    stage.join(A, Some(6));
    stage.join(B, Some(9));
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(7))));
    assert_eq!(stage.out.take(A), "", "repair first");
    assert_eq!(stage.out.take(B), "lost 4, replay 4, synced 4");
    stage.answer(range(4, 7), rows(&[5, 7]));
    assert_eq!(stage.out.take(B), "5, 7, synced 7");
    stage.answer(range(6, 7), rows(&[7]));
    assert_eq!(stage.out.take(A), "joined 7, replay 6, 7, synced 7");
}

#[test]
fn store_away_at_first_means_live_only_until_the_horizon_is_known() {
    let mut stage = Stage::new(1_000);
    stage.feed.subscribed(&mut stage.out);
    stage.message(frame(5));
    stage.join(A, Some(2));
    stage.answer(Ask::Head, away());
    assert_eq!(stage.out.take(A), "lost null, replay 0, 5");
    stage.join(B, None);
    assert_eq!(stage.out.take(B), "lost null, replay 0, 5");
    stage.message(frame(6));
    stage.now_ms = stage.feed.next_due_ms().expect("again");
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(5))));
    for socket in [A, B] {
        assert_eq!(stage.out.take(socket), "6, replay 5, synced 5");
    }
    stage.stored(5, 6, Some(&[6]));
    assert_eq!(stage.out.take(A), "synced 6");
}

#[test]
fn cancelled_request_says_nothing_of_the_store_and_is_made_again() {
    let mut stage = Stage::new(1_000);
    stage.feed.subscribed(&mut stage.out);
    stage.join(A, Some(2));
    let head = stage.request().expect("a head read");
    stage.feed.cancelled(head.id);
    assert!(!stage.feed.has_place(A));
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(5))));
    let page = stage.request().expect("a page");
    stage.feed.cancelled(page.id);
    assert!(stage.feed.has_place(A), "it waits for its page alone");
    assert_eq!(
        stage.out.take(A),
        "",
        "nobody is told that the store is away"
    );
    stage.answer(range(2, 5), rows(&[4]));
    assert_eq!(stage.out.take(A), "joined 5, replay 2, 4, synced 5");
    stage.stored(5, 7, Some(&[7]));
    let fetch = stage.request().expect("the missing row");
    stage.feed.cancelled(fetch.id);
    stage.answer(Ask::Rows(vec![Seq(7)]), rows(&[7]));
    assert_eq!(stage.out.take(A), "7, synced 7");
}

#[test]
fn failed_page_is_lost_for_a_new_join_and_repeated_for_a_promised_one() {
    let mut stage = Stage::at(9);
    stage.join(A, Some(3));
    stage.answer(range(3, 9), rows(&[5, 6]));
    stage.join(B, Some(5));
    stage.out.take(A);
    stage.answer(range(5, 9), away());
    assert_eq!(stage.out.take(B), "lost 9, replay 9, synced 9");
    assert_eq!(stage.out.take(A), "");
    // Also one that comes while it is away.
    stage.join(B, Some(5));
    assert_eq!(stage.out.take(B), "lost 9, replay 9, synced 9");
    stage.answer(Ask::Head, away());
    stage.now_ms = 1_000;
    stage.answer(Ask::Head, away());
    stage.answer(range(6, 9), away());
    stage.now_ms = 6_000;
    stage.answer(Ask::Head, away());
    stage.answer(range(6, 9), away());
    assert_eq!(stage.out.take(A), "close slow");
    assert!(!stage.feed.contains(A));
}

#[test]
fn store_that_is_back_is_found_out_though_nobody_reads() {
    let mut stage = Stage::at(9);
    stage.join(A, Some(3));
    stage.answer(range(3, 9), away());
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(9))));
    stage.join(B, Some(8));
    stage.answer(range(8, 9), rows(&[9]));
    assert_eq!(stage.out.take(B), "joined 9, replay 8, 9, synced 9");
    assert_eq!(stage.request(), None);
    assert_eq!(stage.feed.next_due_ms(), None);
}

#[test]
fn failed_fetch_is_repeated_and_live_goes_on() {
    let mut stage = Stage::at(4);
    stage.join(A, None);
    stage.out.take(A);
    stage.stored(4, 5, Some(&[5]));
    stage.answer(Ask::Rows(vec![Seq(5)]), away());
    stage.message(frame(6));
    assert_eq!(stage.out.take(A), "6");
    // What the fetch is for comes by itself.
    stage.message(frame(5));
    assert_eq!(stage.out.take(A), "5, synced 5");
}

#[test]
fn second_join_replaces_the_first_and_leave_ends_it() {
    let mut stage = Stage::at(9);
    stage.join(A, Some(3));
    stage.join(A, None);
    assert_eq!(stage.feed.len(), 1);
    assert_eq!(stage.request(), None, "the first wants no page any more");
    assert_eq!(stage.out.take(A), "joined 9, replay 9, synced 9");
    stage.feed.leave(A, &mut stage.out);
    stage.message(frame(10));
    assert_eq!(stage.out.take(A), "");
    assert!(stage.feed.is_idle());
}

#[test]
fn repairs_are_counted_by_who_told_of_the_rows() {
    let mut stage = Stage::at(3);
    stage.join(A, None);
    stage.message(frame(4));
    stage.stored(3, 5, Some(&[4, 5]));
    stage.answer(Ask::Rows(vec![Seq(5)]), rows(&[5]));
    stage.message(frame(7));
    stage.feed.head_seen(Seq(8), &mut stage.out);
    stage.answer(range(5, 8), rows(&[6, 7]));
    stage.answer(range(7, 8), rows(&[8]));
    stage.feed.subscribed(&mut stage.out);
    stage.answer(Ask::Head, Ok(Answer::Head(Seq(9))));
    stage.answer(range(8, 9), rows(&[9]));
    let counts = stage.feed.take_counts();
    assert_eq!(
        (
            counts.repaired_by_announcement,
            counts.repaired_by_sweep,
            counts.repaired_by_head,
            counts.repaired
        ),
        (1, 2, 1, 4),
        "4 and 7 were live"
    );
    assert_eq!((counts.behind_at_sweep, counts.behind_at_subscribe), (1, 1));
}

#[test]
fn synced_is_told_once_for_all_that_came_since() {
    let mut stage = Stage::at(3);
    stage.join(A, None);
    assert_eq!(stage.request(), None);
    stage.out.take(A);
    let announce = |seq| Stored {
        channel: channel(),
        from: Seq(seq - 1),
        through: Seq(seq),
        seqs: Some(vec![Seq(seq)]),
    };
    for seq in 4..=6 {
        stage.feed.message(frame(seq), &mut stage.out);
        stage.feed.stored(announce(seq), &mut stage.out);
        assert!(stage.feed.is_untold());
    }
    assert_eq!(stage.feed.horizon(), Some(Seq(6)));
    stage.feed.tell_synced(&mut stage.out);
    assert_eq!(stage.out.take(A), "4, 5, 6, synced 6");
    stage.feed.tell_synced(&mut stage.out);
    assert_eq!(stage.out.take(A), "");
}

#[test]
fn dropped_feed_gives_its_bytes_back() {
    let limits = Limits::new(3);
    let mut feed = Feed::new(channel(), limits.clone());
    let mut out = Wire::default();
    for seq in 1..=9 {
        feed.message(frame(seq), &mut out);
    }
    assert_eq!(limits.frame_bytes_used(), 3);
    assert_eq!(feed.take_counts().unkept, 6);
    drop(feed);
    assert_eq!(limits.frame_bytes_used(), 0);
}

#[test]
fn answer_to_another_feed_is_ignored() {
    let limits = Limits::new(1_000);
    let mut out = Wire::default();
    let mut old = Feed::new(channel(), limits.clone());
    old.subscribed(&mut out);
    let request = old.next_request(0, &out).expect("a head read");
    let mut new = Feed::new(channel(), limits);
    new.subscribed(&mut out);
    new.next_request(0, &out).expect("a head read");
    new.answer(request.id, Ok(Answer::Head(Seq(9))), 0, &mut out);
    assert_eq!(new.horizon(), None);
}

#[test]
fn sweep_suspects_what_stays_below_for_300_ms() {
    let at = |seq| move |_| Horizon::At(Seq(seq));
    let mut sweeper = Sweeper::new(1);
    assert!(!sweeper.is_ready());
    assert!(sweeper.since(0).is_empty());
    sweeper.swept(0, vec![(0, Seq(4))], &[(5, Seq(4))], 0, |_| Horizon::NoFeed);
    assert!(sweeper.is_ready());
    assert_eq!(sweeper.since(0), [(0, Seq(4))]);
    assert_eq!(sweeper.next_due_ms(), None, "no feed, no suspect");
    sweeper.swept(0, vec![(0, Seq(6))], &[(5, Seq(6))], 700, at(4));
    assert_eq!(sweeper.due(999, at(4)), []);
    assert_eq!(sweeper.next_due_ms(), Some(1_000));
    assert_eq!(sweeper.due(1_000, at(4)), [(5, Seq(6))]);
    assert_eq!(sweeper.due(2_000, at(4)), [], "told once");
    sweeper.swept(0, vec![(0, Seq(8))], &[(5, Seq(8))], 2_000, at(4));
    assert_eq!(sweeper.due(2_300, at(8)), [], "it came by itself");
}

#[test]
fn suspect_waits_for_its_horizon() {
    let unknown = |_| Horizon::Unknown;
    let mut sweeper = Sweeper::new(1);
    sweeper.swept(0, vec![(0, Seq(8))], &[(5, Seq(8))], 0, unknown);
    assert_eq!(sweeper.due(5_000, unknown), []);
    let due = sweeper.next_due_ms().expect("it waits");
    assert_eq!(sweeper.due(due, |_| Horizon::At(Seq(7))), [(5, Seq(8))]);
}
