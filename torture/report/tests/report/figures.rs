use hubbub_checker::history::{Phase, Via};
use hubbub_torture_report::measures::Availability;

use crate::history::{History, message, message_in};

#[test]
fn availability_second_by_second() {
    let measures = History::default()
        .phase(0, Phase::Calm)
        .sent(100, 1_100, 1)
        .sent(200, 1_201, 2)
        .phase(2_000, Phase::Faults)
        .fault(1, hubbub_checker::FaultKind::KafkaDown, 3_000, 5_000)
        .invoke(3_100, 3, &message(3))
        .unknown(3_200, 3)
        // A resend is an attempt of its own.
        .invoke(3_300, 4, &message(3))
        .ok(3_400, 4, None)
        .invoke(3_500, 5, &message(4))
        .rejected(3_510, 5)
        .invoke(5_000, 6, &message_in(2, 1))
        .measured();
    let sends = measures.sends;
    assert_eq!((sends.messages, sends.attempts), (5, 6));
    assert_eq!(
        (sends.ok, sends.rejected, sends.unknown, sends.unanswered),
        (3, 1, 1, 1)
    );
    let availability = |attempts, in_time| Availability { attempts, in_time };
    assert_eq!(sends.whole, availability(6, 2));
    assert_eq!(sends.calm, availability(2, 1));
    assert_eq!(sends.under_fault, availability(3, 1));
    assert_eq!(sends.between_faults, availability(3, 1));
    assert_eq!(sends.calm.share(), Some(0.5));
    assert_eq!(Availability::default().share(), None);
    let seconds: Vec<_> = measures
        .seconds
        .iter()
        .map(|second| (second.attempts, second.in_time))
        .collect();
    assert_eq!(seconds, [(2, 1), (0, 0), (0, 0), (3, 1), (0, 0), (1, 0)]);
}

#[test]
fn who_may_not_send_is_no_outage() {
    let measures = History::default()
        .sent(1_000, 1_010, 1)
        .invoke(2_000, 2, &message(2))
        .refused(2_010, 2)
        .fault(1, hubbub_checker::FaultKind::ApiKill, 3_000, 4_000)
        .invoke(5_000, 3, &message(3))
        .invoke(5_000, 4, &message(4))
        .refused(5_010, 3)
        .ok(5_200, 4, Some(4))
        .measured();
    let sends = measures.sends;
    assert_eq!((sends.attempts, sends.refused, sends.rejected), (4, 2, 0));
    let all = Availability {
        attempts: 2,
        in_time: 2,
    };
    assert_eq!((sends.whole, sends.between_faults), (all, all));
    assert_eq!(measures.seconds[2].attempts, 0);
    assert_eq!(measures.seconds[5].attempts, 1);
    assert_eq!(sends.longest_outage_us, 200_000);
    // And nobody noticed anything: the fault's own line is the first.
    assert_eq!(measures.faults[0].detect_us, Some(10_000));
}

#[test]
fn latency_of_live_messages() {
    let measures = History::default()
        .phase(0, Phase::Calm)
        .plain(0, "plain")
        .plain(0, "other")
        .ordered(0, "ordered")
        .sent(1_000, 1_010, 1)
        // Before its sender was answered: nothing from the ok on.
        .given(1_006, "plain", 1)
        .given(1_030, "other", 1)
        .given(1_100, "ordered", 1)
        .sent(2_000, 2_010, 2)
        .given(2_040, "plain", 2)
        // A catch-up is not live.
        .given_via(9_000, "other", 2, Via::CatchUp)
        .phase(3_000, Phase::Faults)
        .sent(3_500, 3_900, 3)
        .given(6_000, "plain", 3)
        // Somebody who does not listen.
        .given(6_000, "stranger", 3)
        .measured();
    let latency = measures.latency;
    let figures = |q: hubbub_torture_report::Quantiles| {
        (
            q.n,
            q.p50_us.unwrap_or(0) / 1000,
            q.max_us.unwrap_or(0) / 1000,
        )
    };
    assert_eq!(figures(latency.calm_plain), (3, 30, 40));
    assert_eq!(figures(latency.calm_plain_from_ok), (3, 20, 30));
    assert_eq!(figures(latency.calm_ordered), (1, 100, 100));
    assert_eq!(figures(latency.calm_ordered_from_ok), (1, 90, 90));
    assert_eq!(figures(latency.plain), (4, 30, 2_500));
    assert_eq!(figures(latency.plain_from_ok), (4, 20, 2_100));
    let second = &measures.seconds[1];
    assert_eq!(figures(second.plain), (2, 6, 30));
    assert_eq!(figures(second.plain_from_ok), (2, 0, 20));
    assert_eq!(figures(second.ordered), (1, 100, 100));
    assert_eq!(measures.seconds[3].plain.max_us, Some(2_500_000));
    assert_eq!(measures.seconds[6].plain.n, 0);
}

#[test]
fn repairs_are_what_the_counters_grew_by() {
    let repaired = r#"hubbub_edge_feed_events_total{kind="repaired"}"#;
    let repeated = r#"hubbub_edge_feed_events_total{kind="repeated"}"#;
    let measures = History::default()
        .gauge(1_000, ("edge-1", 7), repaired, 4.0)
        .gauge(1_000, ("edge-1", 7), "rss_bytes", 1e9)
        .gauge(2_000, ("edge-1", 7), repaired, 4.0)
        .gauge(2_000, ("edge-2", 8), repaired, 1.0)
        .gauge(3_000, ("edge-1", 7), repaired, 10.0)
        .gauge(3_000, ("edge-1", 7), repeated, 2.0)
        // Another process: its counter began at 0.
        .gauge(5_000, ("edge-1", 9), repaired, 12.0)
        .measured();
    let repairs = &measures.repairs;
    assert!(repairs.sampled);
    assert_eq!(repairs.sampled_every_us, 1_000_000);
    assert_eq!(repairs.feed_events["repaired"], 4 + 1 + 6 + 12);
    assert_eq!(repairs.feed_events["repeated"], 2);
    let at = |second: usize| {
        measures.seconds[second]
            .feed_events
            .get("repaired")
            .copied()
    };
    assert_eq!(
        [at(1), at(2), at(3), at(4), at(5)],
        [Some(4), Some(1), Some(6), None, Some(12)]
    );
    assert!(!History::default().measured().repairs.sampled);
}

#[test]
fn connections_that_come_and_go() {
    let measures = History::default()
        .opened(0, "a", 1)
        .closed(2_100, "a", Some(1012))
        .opened(2_900, "a", 2)
        .closed(3_100, "a", None)
        .opened(3_900, "a", 3)
        .measured();
    assert_eq!(measures.repairs.reconnects, 2);
    assert_eq!(measures.repairs.closes["1012"], 1);
    assert_eq!(measures.repairs.closes["none"], 1);
    let seconds: Vec<_> = measures
        .seconds
        .iter()
        .map(|s| (s.reconnects, s.closes))
        .collect();
    assert_eq!(seconds, [(0, 0), (0, 0), (1, 1), (1, 1)]);
}

#[test]
fn an_empty_history_has_no_figures() {
    let measures = History::default().measured();
    assert_eq!(measures.end_us, 0);
    assert_eq!(measures.recovery.all.n, 0);
    assert_eq!(measures.sends.whole.share(), None);
    assert_eq!(measures.latency.plain.p50_us, None);
}
