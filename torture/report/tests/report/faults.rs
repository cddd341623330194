use hubbub_checker::{
    Event, Fault, FaultKind as K,
    history::{Phase, Via},
};

use crate::history::{History, message};

#[test]
fn overlapping_faults_are_one_cluster() {
    let measures = History::default()
        .phase(0, Phase::Calm)
        .fault(1, K::EdgeKill, 10_000, 12_000)
        .fault(2, K::ConsumerKill, 11_000, 15_000)
        .fault(3, K::RedisKill, 15_000, 15_500)
        .fault(4, K::ApiKill, 15_600, 16_000)
        .measured();
    let clusters: Vec<_> = measures
        .clusters
        .iter()
        .map(|c| {
            (
                c.start_us / 1000,
                c.end_us / 1000,
                &c.faults[..],
                c.consumer,
            )
        })
        .collect();
    assert_eq!(
        clusters,
        [
            (10_000, 15_500, &[1, 2, 3][..], true),
            (15_600, 16_000, &[4][..], false)
        ]
    );
    let of_faults: Vec<_> = measures.faults.iter().map(|f| f.cluster).collect();
    assert_eq!(of_faults, [0, 0, 0, 1]);
}

#[test]
fn a_recovery_that_the_next_fault_overtakes_says_so() {
    let mut history = History::default();
    history
        .plain(0, "reader")
        .sent(10_100, 10_110, 1)
        .fault(1, K::EdgeKill, 10_000, 11_000)
        .fault(2, K::EdgeKill, 11_500, 12_000)
        .fault(3, K::EdgeKill, 13_000, 14_000);
    let measures = history.clone().given(12_300, "reader", 1).measured();
    let times: Vec<_> = measures
        .clusters
        .iter()
        .map(|c| (c.recovery_us, c.overtaken))
        .collect();
    assert_eq!(
        times,
        [
            (Some(1_300_000), true),
            (Some(300_000), false),
            (Some(0), false)
        ]
    );
    assert_eq!(measures.recovery.all.max_us, Some(1_300_000));
    assert_eq!(measures.recovery.undisturbed.max_us, Some(300_000));
    assert_eq!(measures.recovery.undisturbed.n, 2);
}

#[test]
fn vacuous_faults_do_not_count() {
    let measures = History::default()
        .plain(0, "reader")
        .sent(10_100, 10_110, 1)
        .vacuous_fault(1, K::EdgeKill, 10_000, 11_000)
        .given(15_000, "reader", 1)
        .fault(2, K::EdgeKill, 20_000, 21_000)
        .measured();
    assert!(measures.faults[0].vacuous());
    assert_eq!(measures.faults[0].detect_us, None);
    assert_eq!(measures.faults[0].recovery_us, Some(4_000_000));
    assert_eq!(measures.recovery.all.n, 1);
    assert_eq!(measures.recovery.all.max_us, Some(0));
    let kind = &measures.kinds[&K::EdgeKill];
    assert_eq!((kind.faults, kind.vacuous, kind.recovery.n), (2, 1, 1));
}

#[test]
fn detected_by_the_first_effect_after_the_start() {
    let repaired = r#"hubbub_edge_feed_events_total{kind="repaired"}"#;
    let repeated = r#"hubbub_edge_feed_events_total{kind="repeated"}"#;
    let mut history = History::default();
    history
        .closed(9_999, "early", Some(1012))
        .vacuous_fault(1, K::RedisKill, 10_000, 11_000)
        .at(
            10_900,
            Event::FaultSeen {
                number: 1,
                effect: "2 repairs".into(),
            },
        )
        // A harmless drop is no effect.
        .gauge(10_100, ("edge-1", 7), repeated, 3.0)
        .gauge(10_700, ("edge-1", 7), repaired, 2.0);
    let detect = |history: &mut History| history.measured().faults[0].detect_us;
    assert_eq!(detect(&mut history.clone()), Some(700_000));
    assert_eq!(
        detect(history.clone().closed(10_300, "reader", None)),
        Some(300_000)
    );
    assert_eq!(
        detect(
            history
                .clone()
                .invoke(10_000, 1, &message(1))
                .unknown(10_200, 1)
        ),
        Some(200_000)
    );
    // Far after the end only its own line counts.
    let mut late = History::default();
    late.vacuous_fault(1, K::RedisKill, 10_000, 11_000)
        .closed(16_001, "reader", None)
        .at(
            17_000,
            Event::FaultSeen {
                number: 1,
                effect: "1 retry".into(),
            },
        );
    assert_eq!(detect(&mut late), Some(7_000_000));
}

#[test]
fn a_fault_without_an_end_lasts_until_the_faults_are_over() {
    let fault = Fault {
        number: 1,
        kind: K::KafkaDown,
        target: "kafka".into(),
        start_ms: 0,
        lasts_ms: 10,
        hypothesis: String::new(),
    };
    let measures = History::default()
        .phase(0, Phase::Calm)
        .phase(5_000, Phase::Faults)
        .at(6_000, Event::FaultStarted(fault))
        .phase(9_000, Phase::Healed)
        .phase(12_000, Phase::Quiet)
        .measured();
    assert!(!measures.faults[0].ended);
    assert_eq!(measures.faults[0].end_us, 9_000_000);
    let phases: Vec<_> = measures
        .phases
        .iter()
        .map(|p| (p.start_us / 1000, p.end_us / 1000))
        .collect();
    assert_eq!(
        phases,
        [
            (0, 5_000),
            (5_000, 9_000),
            (9_000, 12_000),
            (12_000, 12_000)
        ]
    );
}

#[test]
fn send_outages() {
    let measures = History::default()
        .sent(1_000, 1_010, 1)
        // Nobody tries: no outage.
        .fault(1, K::KafkaDown, 4_000, 8_000)
        .invoke(5_000, 2, &message(2))
        .unknown(6_000, 2)
        .invoke(6_500, 3, &message(2))
        .ok(8_700, 3, None)
        .fault(2, K::KafkaSlow, 20_000, 21_000)
        .sent(20_100, 20_300, 4)
        .fault(3, K::ApiKill, 30_000, 31_000)
        .measured();
    let outages: Vec<_> = measures.faults.iter().map(|f| f.outage_us).collect();
    assert_eq!(outages, [3_700_000, 200_000, 0]);
    assert_eq!(measures.sends.longest_outage_us, 3_700_000);
    assert_eq!(measures.recovery.outage.max_us, Some(3_700_000));
}

#[test]
fn an_outage_belongs_to_every_fault_that_overlaps_it() {
    let measures = History::default()
        .fault(1, K::KafkaDown, 4_000, 8_000)
        // Begins when nothing is answered, and ends before the others.
        .fault(2, K::EdgeFreeze, 6_000, 7_000)
        // Nobody noticed it: it takes no share.
        .vacuous_fault(3, K::ApiKill, 6_100, 6_200)
        .invoke(5_000, 1, &message(1))
        .unknown(6_000, 1)
        .invoke(6_500, 2, &message(1))
        .ok(8_700, 2, None)
        // After the outage's fault, within the outage.
        .fault(4, K::PubsubKill, 8_500, 9_000)
        .fault(5, K::KafkaDown, 20_000, 21_000)
        .sent(20_100, 20_900, 3)
        .vacuous_fault(6, K::ApiKill, 20_200, 20_300)
        .measured();
    let shared: Vec<_> = measures
        .faults
        .iter()
        .map(|fault| (fault.outage_us, fault.outage_shared))
        .collect();
    let long = (3_700_000, true);
    let short = (800_000, false);
    // A vacuous one shares what a fault that counts is the cause of.
    assert_eq!(shared, [long, long, long, long, short, (800_000, true)]);
    let kafka = measures.kinds[&K::KafkaDown];
    assert_eq!((kafka.outage.n, kafka.outage.max_us), (2, Some(3_700_000)));
    assert_eq!(
        (kafka.outage_alone.n, kafka.outage_alone.max_us),
        (1, Some(800_000))
    );
    let freeze = measures.kinds[&K::EdgeFreeze];
    assert_eq!((freeze.outage.n, freeze.outage_alone.n), (1, 0));
}

#[test]
fn an_outage_that_never_ended() {
    let measures = History::default()
        .fault(1, K::KafkaDown, 4_000, 8_000)
        .invoke(5_000, 2, &message(2))
        .unknown(6_000, 2)
        .invoke(6_500, 3, &message(2))
        .rejected(7_250, 3)
        .measured();
    assert_eq!(measures.faults[0].outage_us, 2_250_000);
}

#[test]
fn the_consumers_lag_where_it_was_sampled() {
    let lag = |n: u32| format!("consumer_lag_records{{shard=\"{n}\"}}");
    let mut history = History::default();
    history
        .phase(0, Phase::Calm)
        .phase(5_000, Phase::Faults)
        .fault(1, K::ConsumerKill, 10_000, 12_000);
    assert_eq!(history.clone().measured().recovery.consumer_lag.n, 0);
    for (ms, first, second) in [
        (1_000, 2.0, 1.0),
        (11_000, 80.0, 0.0),
        (13_000, 40.0, 0.0),
        (15_000, 1.0, 2.0),
    ] {
        history.gauge(ms, ("sampler", 1), &lag(0), first).gauge(
            ms,
            ("sampler", 1),
            &lag(1),
            second,
        );
    }
    let measures = history
        .ordered(0, "ordered")
        .sent(10_500, 10_510, 1)
        .given_via(13_500, "ordered", 1, Via::Live)
        .measured();
    // No more than the three records of calm, from 15 s on.
    assert_eq!(measures.clusters[0].lag_us, Some(3_000_000));
    assert_eq!(measures.recovery.consumer_lag.max_us, Some(3_000_000));
    assert_eq!(measures.recovery.consumer_history.max_us, Some(1_500_000));
    assert_eq!(measures.recovery.consumer_live.max_us, Some(0));
    assert_eq!(measures.recovery.without_consumer.n, 0);
}
