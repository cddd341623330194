use hubbub_checker::{
    Event, FaultKind,
    history::{Phase, Via},
};
use hubbub_protocol::Seq;

use crate::history::{History, message};

const KIND: FaultKind = FaultKind::EdgeKill;

/// Two listeners and one fault from 10 s to 12 s.
fn one_fault() -> History {
    let mut history = History::default();
    history
        .phase(0, Phase::Calm)
        .plain(100, "plain")
        .ordered(100, "ordered")
        .fault(1, KIND, 10_000, 12_000);
    history
}

#[test]
fn until_the_last_listener_has_what_was_acknowledged_before_the_end() {
    let measures = one_fault()
        .sent(11_000, 11_010, 1)
        .given(12_400, "plain", 1)
        .given(13_000, "ordered", 1)
        // Acknowledged after the end: of no account.
        .sent(12_500, 12_510, 2)
        .given(12_520, "plain", 2)
        .given(19_000, "ordered", 2)
        .measured();
    let cluster = &measures.clusters[0];
    assert_eq!((cluster.start_us, cluster.end_us), (10_000_000, 12_000_000));
    assert_eq!(
        (cluster.sends_us, cluster.plain_us, cluster.ordered_us),
        (0, 400_000, 1_000_000)
    );
    assert_eq!(cluster.recovery_us, Some(1_000_000));
    assert_eq!(cluster.live_us, Some(400_000));
    assert_eq!(cluster.history_us, Some(1_000_000));
    assert_eq!((cluster.missing, cluster.waived), (0, 0));
    assert_eq!(measures.faults[0].recovery_us, Some(1_000_000));
    assert_eq!(measures.recovery.all.p50_us, Some(1_000_000));
}

#[test]
fn zero_if_nothing_was_missing() {
    let measures = one_fault()
        .sent(11_000, 11_010, 1)
        .given(11_020, "plain", 1)
        // The moment of the end itself is in time.
        .given(12_000, "ordered", 1)
        .at(20_000, Event::Phase(Phase::Final))
        .measured();
    assert_eq!(measures.clusters[0].recovery_us, Some(0));
}

#[test]
fn a_lost_connection_ends_no_stay_but_leaving_does() {
    let measures = one_fault()
        .plain(100, "leaver")
        .plain(100, "leaves later")
        .sent(11_000, 11_010, 1)
        .closed(11_005, "plain", None)
        .left(11_500, "leaver")
        .left(15_000, "leaves later")
        .opened(12_300, "plain", 2)
        .joined(12_310, "plain", Some(0), Some(1), true, false)
        .given_via(12_320, "plain", 1, Via::CatchUp)
        .given(11_030, "ordered", 1)
        .measured();
    let cluster = &measures.clusters[0];
    assert_eq!(cluster.recovery_us, Some(320_000));
    assert_eq!((cluster.missing, cluster.waived), (0, 1));
}

#[test]
fn what_lies_before_the_join_point_is_not_due() {
    let measures = one_fault()
        .sent(1_000, 1_010, 1)
        .given(1_020, "plain", 1)
        .given(1_020, "ordered", 1)
        .joined(11_000, "late", None, Some(1), true, false)
        .sent(11_100, 11_110, 2)
        .given(11_120, "plain", 2)
        .given(11_120, "ordered", 2)
        .given(12_050, "late", 2)
        .measured();
    assert_eq!(measures.clusters[0].recovery_us, Some(50_000));
}

#[test]
fn an_honest_recovered_false_waives_what_lies_before() {
    let measures = one_fault()
        .sent(11_000, 11_010, 1)
        .sent(11_100, 11_110, 2)
        .given(11_120, "ordered", 1)
        .given(11_120, "ordered", 2)
        .joined(12_500, "plain", Some(0), Some(1), false, false)
        .given(12_600, "plain", 2)
        .measured();
    let cluster = &measures.clusters[0];
    assert_eq!(cluster.recovery_us, Some(600_000));
    assert_eq!((cluster.missing, cluster.waived), (0, 1));
}

#[test]
fn every_send_needs_its_definite_answer() {
    let measures = one_fault()
        .invoke(11_000, 1, &message(1))
        .unknown(11_500, 1)
        // Another attempt that never reached the log does not settle the first one.
        .invoke(11_600, 2, &message(1))
        .rejected(12_100, 2)
        .invoke(12_200, 3, &message(1))
        .ok(12_250, 3, None)
        .given(12_260, "plain", 1)
        .given(12_270, "ordered", 1)
        // Rejected in its only attempt: that is definite.
        .invoke(11_700, 4, &message(2))
        .rejected(12_050, 4)
        .measured();
    let cluster = &measures.clusters[0];
    assert_eq!(cluster.sends_us, 250_000);
    // It was not acknowledged before the end, so nobody had to have it.
    assert_eq!(cluster.recovery_us, Some(250_000));
}

#[test]
fn a_send_that_was_given_up_has_had_its_last_answer() {
    let mut history = one_fault();
    history
        .invoke(11_000, 1, &message(1))
        .unknown(11_500, 1)
        .invoke(11_600, 2, &message(1))
        .unknown(16_600, 2)
        .phase(30_000, Phase::Final);
    let measures = history.clone().measured();
    let cluster = &measures.clusters[0];
    assert_eq!((cluster.sends_us, cluster.missing), (4_600_000, 0));
    assert_eq!(cluster.recovery_us, Some(4_600_000));
    assert_eq!(measures.sends.abandoned, 1);
    // One that waits for ever is another matter.
    let measures = history.invoke(17_000, 3, &message(1)).measured();
    assert_eq!(measures.clusters[0].missing, 1);
    assert_eq!(
        (measures.sends.abandoned, measures.sends.unanswered),
        (0, 1)
    );
}

#[test]
fn what_never_comes_counts_for_the_first_cluster_that_lacked_it() {
    let measures = one_fault()
        .sent(11_000, 11_010, 1)
        .given(11_020, "ordered", 1)
        .fault(2, KIND, 20_000, 21_000)
        .sent(20_500, 20_510, 2)
        .given(20_520, "ordered", 2)
        .given(21_200, "plain", 2)
        .invoke(20_600, 9, &message(3))
        .at(30_000, Event::Phase(Phase::Final))
        .measured();
    let [first, second] = &measures.clusters[..] else {
        panic!("two clusters");
    };
    assert_eq!((first.missing, first.recovery_us), (1, None));
    assert_eq!((first.live_us, first.history_us), (None, Some(0)));
    // The send that never had an answer is the second one's.
    assert_eq!((second.missing, second.recovery_us), (1, None));
    assert_eq!(second.plain_us, 200_000);
    assert_eq!(measures.recovery.not_recovered, 2);
    assert_eq!(measures.recovery.all.n, 0);
}

#[test]
fn the_lowest_copy_of_a_message_is_its_place() {
    // A resend is answered without a seq; the store says where the message is.
    let mut kept = message(5);
    kept.seq = Seq(5);
    let measures = one_fault()
        .invoke(11_000, 1, &message(5))
        .unknown(11_100, 1)
        .invoke(11_200, 2, &message(5))
        .ok(11_300, 2, None)
        .joined(11_400, "late", None, Some(5), true, false)
        .given(11_500, "plain", 5)
        .given(11_500, "ordered", 5)
        .at(
            40_000,
            Event::Row {
                partition: 0,
                record: kept,
            },
        )
        .measured();
    // `late` joined above the kept copy's seq, so it is not due there.
    assert_eq!(measures.clusters[0].recovery_us, Some(0));
}
