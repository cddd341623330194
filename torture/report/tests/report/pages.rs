use std::{collections::BTreeSet, fs, path::PathBuf};

use hubbub_checker::{Assertion, Entry, Event, Verdict, Violation};
use hubbub_torture_report::{Measures, Report, Run, measure, write};

use crate::{
    history::History,
    specimen::{self, Size},
};

/// The pages of a run, kept under `target/tmp` so that they can be looked at.
fn pages(name: &str, run: &Run, verdict: &Verdict, entries: &[Entry]) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).expect("target/tmp is writable");
    write(&dir, run, &measure(entries), verdict, entries).expect("the pages are written");
    dir
}

fn read(dir: &std::path::Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).expect("it was written")
}

fn violation(assertion: Assertion, name: &str, message: &str, at_s: Option<u64>) -> Violation {
    Violation {
        assertion,
        name: name.into(),
        message: message.into(),
        at_us: at_s.map(|s| s * 1_000_000),
    }
}

#[test]
fn a_run_that_held() {
    let entries = specimen::history(42, specimen::T1);
    let run = specimen::run(42, "t1");
    let dir = pages("report-t1", &run, &specimen::verdict(Vec::new()), &entries);
    let page = read(&dir, "report.md");
    assert!(
        page.starts_with("# Torture t1, seed 42: the contract held\n"),
        "{page}"
    );
    let report: Report = serde_json::from_str(&read(&dir, "report.json")).unwrap();
    assert_eq!(report.measures, measure(&entries));
    assert_eq!(report.measures.faults.len(), 200);
    let trials = report.bound.trials;
    assert!(
        page.contains(&format!("0 failures in {trials} faults")),
        "{page}"
    );
    assert!(
        page.contains(&format!("rule of three: 3/{trials}")),
        "{page}"
    );
    assert!(
        page.contains("70.0 per million receipts, 350.0 per million messages"),
        "{page}"
    );
    assert!(page.contains("./dev torture --profile t1 --seed 42\n"));
    assert!(page.contains("- Left out: clock jump: libfaketime"));
    let vacuous = report
        .measures
        .faults
        .iter()
        .filter(|f| f.vacuous())
        .count();
    assert_eq!(
        page.matches("- Vacuous, nobody noticed it").count(),
        vacuous
    );
    assert!(!page.contains("Nothing was compared"), "{page}");
    // Every fault can be pointed at.
    let html = read(&dir, "timeline.html");
    for fault in &report.measures.faults {
        assert!(html.contains(&format!("aria-label=\"{}. ", fault.number)));
    }
}

#[test]
fn a_run_that_broke() {
    let entries = specimen::history(7, specimen::T0);
    let run = Run {
        mutant: Some("M10".into()),
        ..specimen::run(7, "t0")
    };
    let violations = vec![
        violation(
            Assertion::A6,
            "skipped",
            "reader-3 in C000000002 never got seq 812 (8f14e45f-…), which is between its join \
             point 4 and the head 990",
            Some(31),
        ),
        violation(Assertion::A6, "skipped", "reader-5 in C000000002", Some(31)),
        violation(
            Assertion::A7,
            "unseen",
            "reader-3 has synced 811, head 990",
            Some(73),
        ),
        violation(
            Assertion::A11,
            "conservation",
            "partition 3: 400 is not 399",
            None,
        ),
    ];
    let mut verdict = specimen::verdict(violations);
    verdict.checked.insert(Assertion::A12, 0);
    let dir = pages("report-t0-broken", &run, &verdict, &entries);
    let page = read(&dir, "report.md");
    assert!(
        page.starts_with(
            "# Torture t0, seed 7, with the planted bug M10: BROKEN: A6 × 2, A7 × 1, A11 × 1\n"
        ),
        "{page}"
    );
    assert!(page.contains("4 violations in a run with"));
    assert!(page.contains("no bound is claimed"));
    assert!(page.contains("Nothing was compared for A12.\n"), "{page}");
    assert!(page.contains("| 0:31.000 | A6 | skipped |"));
    let html = read(&dir, "timeline.html");
    // Those that have a moment.
    assert_eq!(html.matches("class=\"tip violation\"").count(), 3);
}

#[test]
fn a_run_of_a_broken_suite_says_that_first() {
    let run = Run {
        errors: vec!["consumer-2 did not come back".into()],
        ..specimen::run(1, "t0")
    };
    let dir = pages("report-invalid", &run, &specimen::verdict(Vec::new()), &[]);
    let page = read(&dir, "report.md");
    assert!(
        page.starts_with("# Torture t0, seed 1: not valid"),
        "{page}"
    );
    assert!(page.contains("consumer-2 did not come back"));
    assert!(!page.contains("0 failures in"));
    let report: Report = serde_json::from_str(&read(&dir, "report.json")).unwrap();
    assert_eq!((report.valid, report.bound.below), (false, None));
}

#[test]
fn no_text_of_a_run_becomes_markup() {
    let evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>|`\n</style>";
    let mut history = History::default();
    history
        .phase(0, hubbub_checker::history::Phase::Calm)
        .plain(10, evil)
        .sent(100, 110, 1)
        .given(120, evil, 1)
        .fault(1, hubbub_checker::FaultKind::EdgeKill, 1_000, 2_000)
        .at(
            1_500,
            Event::FaultSeen {
                number: 1,
                effect: evil.into(),
            },
        );
    for entry in &mut history.0 {
        if let Event::FaultStarted(fault) = &mut entry.event {
            fault.target = evil.into();
            fault.hypothesis = evil.into();
        }
    }
    history.measured();
    let run = Run {
        profile: evil.into(),
        mutant: Some(evil.into()),
        commit: evil.into(),
        machine: evil.into(),
        command: evil.into(),
        settings: [(evil.to_owned(), evil.to_owned())].into(),
        errors: vec![evil.into()],
        ..Run::default()
    };
    let verdict = specimen::verdict(vec![violation(Assertion::A1, evil, evil, Some(1))]);
    let dir = pages("report-evil", &run, &verdict, &history.0);
    let html = read(&dir, "timeline.html");
    assert!(!html.contains("<script>alert") && !html.contains("<img"));
    // The three of the page itself: the figures, and the script; one style.
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("</style>").count(), 1);
    let svg = read(&dir, "timeline.svg");
    assert!(!svg.contains("<script") && !svg.contains("<img"));
    assert_eq!(svg.matches("</style>").count(), 1);
    let page = read(&dir, "report.md");
    // Only the command, in its fence, stands as it is.
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("\n```").count(), 2);
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let entries = specimen::history(3, specimen::T0);
    let run = specimen::run(3, "t0");
    let dir = pages("report-t0", &run, &specimen::verdict(Vec::new()), &entries);
    for name in ["timeline.html", "timeline.svg"] {
        let page = read(&dir, name).replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "http:", "https:", "//cdn", "@import", "url(", "src=", "href=",
        ] {
            assert!(!page.contains(foreign), "{name} has {foreign}");
        }
    }
    assert!(!read(&dir, "timeline.svg").contains("<script"));
}

/// Every field of a value by its path; what varies with the run stands as `*`.
fn paths(value: &serde_json::Value, path: &str, into: &mut BTreeSet<String>) {
    const MAPS: [&str; 9] = [
        ".run.settings",
        ".run.left_out",
        ".verdict.broken",
        ".verdict.checked",
        ".verdict.counts",
        ".lines",
        ".measures.kinds",
        ".measures.repairs.feed_events",
        ".measures.repairs.closes",
    ];
    match value {
        serde_json::Value::Object(fields) => {
            let by_name = MAPS.contains(&path) || path.ends_with("seconds[].feed_events");
            for (name, value) in fields {
                let name = if by_name { "*" } else { name };
                paths(value, &format!("{path}.{name}"), into);
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                paths(value, &format!("{path}[]"), into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn the_fields_of_report_json_are_known() {
    let entries = specimen::history(3, specimen::T0);
    let violations = vec![violation(Assertion::A1, "lost write", "U1 1", Some(3))];
    let run = Run {
        errors: vec!["a".into()],
        ..specimen::run(3, "t0")
    };
    let verdict = specimen::verdict(violations);
    let report = Report::of(&run, &measure(&entries), &verdict, &entries);
    let mut fields = BTreeSet::new();
    paths(&serde_json::to_value(&report).unwrap(), "", &mut fields);
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let known: Vec<&str> = include_str!("fields.txt").lines().collect();
    assert_eq!(
        fields,
        known,
        "schema 1 changed; what programs read it? All fields:\n{}",
        fields.join("\n")
    );
}

/// With `--ignored`: as many lines as a full t1 has. Takes about 4 GB.
#[test]
#[ignore = "memory; run it when the pass over the history changes"]
fn eight_million_lines() {
    let size = Size {
        messages: 100_000,
        devices: 500,
        listeners: 38,
        ..specimen::T1
    };
    let entries = specimen::history(5, size);
    assert!(entries.len() > 7_500_000, "{}", entries.len());
    let measures: Measures = measure(&entries);
    assert_eq!(measures.sends.messages, 100_000);
    let receipts = measures.latency.plain.n + measures.latency.ordered.n;
    assert!(receipts > 3_000_000, "{receipts}");
}
