//! What a device is owed after a join: from where on, and until it leaves.

use hubbub_checker::{
    Event, FaultKind,
    history::{Phase, Via},
};

use crate::history::{History, channel_id};

const KIND: FaultKind = FaultKind::ShardFreeze;

/// A device that listens, and a fault from 10 s to 12 s. Message 1 came before it.
fn one_fault() -> History {
    let mut history = History::default();
    history
        .phase(0, Phase::Calm)
        .ordered(100, "it")
        .sent(1_000, 1_010, 1)
        .given(1_020, "it", 1)
        .fault(1, KIND, 10_000, 12_000);
    history
}

/// What is missing after the one fault, what was waived, and when all was back.
fn outcome(history: &mut History) -> (u64, u64, Option<u64>) {
    let measures = history.at(60_000, Event::Phase(Phase::Final)).measured();
    let [cluster] = &measures.clusters[..] else {
        panic!("one cluster");
    };
    (cluster.missing, cluster.waived, cluster.recovery_us)
}

#[test]
fn a_replay_from_0_is_no_join_point() {
    let mut history = one_fault();
    history
        .sent(10_500, 10_510, 2)
        .sent(10_600, 10_610, 3)
        .closed(10_700, "it", None)
        .sent(11_000, 11_010, 4)
        .opened(11_100, "it", 2)
        .join_asked(11_110, "it", Some(1), true)
        .joined(11_200, "it", Some(1), None, false, true)
        .replay(11_210, "it", 0)
        .synced(11_900, "it", 3);
    // The store was away and the server said so: 2 and 3 come with history. 4 does not.
    assert_eq!(outcome(&mut history.clone()), (1, 0, None));
    history.given(12_300, "it", 4);
    assert_eq!(outcome(&mut history), (0, 0, Some(300_000)));
}

#[test]
fn what_came_before_the_join_point_was_known_is_not_owed() {
    let mut history = one_fault();
    history
        .closed(10_400, "it", None)
        .opened(10_500, "it", 2)
        .join_asked(10_510, "it", Some(1), false)
        .joined(10_600, "it", Some(1), None, false, false)
        .replay(10_610, "it", 0)
        // After the join, and lost on the bus.
        .sent(11_000, 11_010, 2)
        .sent(11_100, 11_110, 3)
        .given_via(11_120, "it", 3, Via::CatchUp)
        // After the end of the fault: until now nobody knew.
        .replay(12_500, "it", 3)
        .synced(12_500, "it", 3);
    assert_eq!(outcome(&mut history), (0, 0, Some(0)));
}

#[test]
fn a_cursor_after_a_detach_counts_where_it_is_below_the_synced() {
    let mut history = one_fault();
    history
        .joined(10_600, "it", Some(1), None, false, false)
        .replay(10_610, "it", 0)
        .sent(11_000, 11_010, 2)
        .replay(11_500, "it", 1)
        .synced(11_600, "it", 2);
    assert_eq!(outcome(&mut history), (1, 0, None));
}

#[test]
fn what_a_later_join_point_leaves_due_is_not_waived() {
    let mut history = one_fault();
    history
        .sent(10_500, 10_510, 2)
        .sent(10_600, 10_610, 3)
        // It lacks both at the end, and 2 is what the server does not promise.
        .joined(12_400, "it", Some(1), None, false, true)
        .replay(12_410, "it", 0)
        .synced(12_700, "it", 2);
    assert_eq!(outcome(&mut history.clone()), (1, 1, None));
    history.given(13_000, "it", 3);
    assert_eq!(outcome(&mut history), (0, 1, Some(1_000_000)));
}

#[test]
fn who_is_never_told_is_owed_what_comes_after_the_join() {
    let mut history = one_fault();
    history
        .joined(10_500, "it", Some(1), None, false, true)
        .sent(11_100, 11_110, 2);
    assert_eq!(outcome(&mut history.clone()), (1, 0, None));
    history.given(12_070, "it", 2);
    assert_eq!(outcome(&mut history), (0, 0, Some(70_000)));
}

#[test]
fn another_join_begins_where_it_says_if_nobody_knew() {
    let mut history = one_fault();
    history
        .joined(10_500, "it", Some(1), None, false, true)
        .replay(10_510, "it", 0)
        .sent(11_000, 11_010, 2)
        .sent(11_100, 11_110, 3)
        .joined(12_500, "it", Some(2), Some(3), true, true)
        .replay(12_510, "it", 2)
        .synced(12_600, "it", 3);
    // It says that it has 2.
    assert_eq!(outcome(&mut history.clone()), (1, 1, None));
    history.given(12_550, "it", 3);
    assert_eq!(outcome(&mut history), (0, 1, Some(550_000)));
}

#[test]
fn an_answer_that_the_applications_leave_overtook_is_to_nobody() {
    let mut history = one_fault();
    history
        .left(10_100, "it")
        .join_asked(10_500, "it", Some(1), true)
        .left(10_600, "it")
        .sent(10_650, 10_660, 2)
        .joined(10_700, "it", Some(1), Some(2), true, true)
        .replay(10_710, "it", 1)
        .synced(10_720, "it", 2);
    assert_eq!(outcome(&mut history.clone()), (0, 0, Some(0)));
    // The next one is to somebody.
    history.join_asked(11_000, "it", Some(1), true).joined(
        11_100,
        "it",
        Some(1),
        Some(2),
        true,
        true,
    );
    assert_eq!(outcome(&mut history), (1, 0, None));
}

#[test]
fn the_servers_word_overtakes_no_join() {
    let mut history = one_fault();
    history
        .join_asked(10_500, "it", Some(1), true)
        .evicted(10_600, "it")
        .sent(10_650, 10_660, 2)
        .joined(10_700, "it", Some(1), Some(2), true, true);
    assert_eq!(outcome(&mut history), (1, 0, None));
}

#[test]
fn what_was_given_before_a_leave_counts_no_more() {
    let mut history = one_fault();
    history
        .sent(10_500, 10_510, 2)
        .given(10_520, "it", 2)
        .left(11_000, "it")
        .join_asked(11_500, "it", Some(1), true)
        .joined(11_600, "it", Some(1), Some(2), true, true);
    // It asked for all above 1, and its client has forgotten 2.
    assert_eq!(outcome(&mut history.clone()), (1, 0, None));
    history.given_via(12_200, "it", 2, Via::CatchUp);
    assert_eq!(outcome(&mut history), (0, 0, Some(200_000)));
}

#[test]
fn what_was_given_before_an_eviction_does() {
    let mut history = one_fault();
    history
        .sent(10_500, 10_510, 2)
        .given(10_520, "it", 2)
        .evicted(11_000, "it")
        .join_asked(11_500, "it", Some(1), true)
        .joined(11_600, "it", Some(1), Some(2), true, true);
    assert_eq!(outcome(&mut history), (0, 0, Some(0)));
}

#[test]
fn each_join_without_a_point_has_its_own() {
    let mut history = one_fault();
    history
        // In a channel that nobody writes in.
        .at(
            9_000,
            Event::Joined {
                device: "it".into(),
                connection: 1,
                channel: channel_id(9),
                since: None,
                head: None,
                recovered: false,
                ordered: false,
            },
        )
        .joined(10_100, "it", Some(1), None, false, true)
        .joined(10_200, "other", None, None, false, false)
        .sent(10_500, 10_510, 2)
        .sent(10_600, 10_610, 3)
        .synced(10_700, "other", 3)
        .synced(10_800, "it", 2);
    assert_eq!(outcome(&mut history), (1, 0, None));
}
