//! The whole suite in small, with the programs of this build: it works, and every count is exact.
//! Nothing is said of time. Other servers are left out: they need more than a toolchain.

use hubbub_bench::pair::Spread;
use hubbub_bench::results::{Results, Row, Verdict};
use hubbub_bench::suite::Benchmark;
use std::path::Path;
use std::process::Command;

#[test]
fn every_benchmark_works_and_counts_to_the_unit() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    let servers = bench.parent().expect("a directory of programs");
    assert!(
        servers.join("hubbub-edge-server").is_file(),
        "./dev test builds the servers first"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(bench)
        .args(["--smoke", "--servers"])
        .arg(servers)
        .arg("--results")
        .arg(dir.path())
        .output()
        .expect("the suite");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let mut files = std::fs::read_dir(dir.path()).expect("results");
    let json = files.find_map(|file| {
        let path = file.expect("a file").path();
        path.extension()
            .is_some_and(|e| e == "json")
            .then_some(path)
    });
    let results = Results::read(&json.expect("results"))
        .expect("results")
        .expect("results");
    let ids: Vec<&str> = results.parts.iter().map(|part| part.id.as_str()).collect();
    let all: Vec<&str> = Benchmark::ALL.iter().map(|one| one.id()).collect();
    assert_eq!(ids, all, "{said}");
    for row in results.rows() {
        if matches!(row.verdict, Verdict::NotMeasured(_)) {
            // Another server, or a program that this machine does not have.
            continue;
        }
        assert_eq!(row.verdict, Verdict::Reported, "{said}");
        // No allocation at all is a figure, too, and so is memory that did not grow.
        let nothing = row.ours == Spread::default();
        // So are commands that nobody gave, and a pod that is shown before it was asked for.
        let metrics = ["resident bytes", "commands to Redis", "slowest from ready"];
        let may_be = row.id == "B27" || metrics.iter().any(|one| row.metric.starts_with(one));
        assert!(!nothing || may_be, "{row:?}");
    }
    // 20 sockets: 5 messages; bursts of 16 and 64 messages in all.
    assert_eq!(counts(&results, "B1"), [(5, 100)]);
    assert_eq!(counts(&results, "B2"), [(64, 1_280), (64, 1_280)]);
    // 100 a second in five channels of ten sockets.
    assert_eq!(counts(&results, "B3"), [(100, 1_000)]);
    // 32 messages to 1, 10, 20 and 20.
    assert_eq!(
        counts(&results, "B4"),
        [(32, 32), (32, 320), (32, 640), (32, 640)]
    );
    assert_eq!(counts(&results, "B13"), [(50, 50)]);
    let rows = |row: &Row| row.counts.get("rows").copied();
    let stored = results.rows().find_map(rows);
    assert_eq!(stored, Some(500));
    // Four in each of 20 sockets' hands; three slow ones and one were drained.
    assert_eq!(count(&results, "B7", "delivered"), 80);
    // Ten missed by each of 40.
    assert_eq!(count(&results, "resume", "delivered"), 400);
    // 40 a second for one second in four channels of ten sockets, twice; two looks before anybody
    // came, and two after; 20 questions in turn and 20 at once, then 20 and one to a pod less.
    assert_eq!(count(&results, "live", "messages"), 80);
    assert_eq!(count(&results, "live", "delivered"), 800);
    assert_eq!(count(&results, "live", "looks"), 8);
    assert_eq!(count(&results, "live", "answers"), 61);
    let silence = results
        .rows()
        .find(|row| row.metric.starts_with("commands to Redis"));
    assert_eq!(silence.expect("nobody looks").ours, Spread::default());
    // 64 a second for one second, to 1 and to 3 slow sockets.
    let slow = "delivered_to_slow_afterwards";
    assert_eq!(count(&results, "B12", slow), 64 + 3 * 64);
}

/// Messages sent and delivered, of each row that has them; nothing was lost, doubled or out of
/// order in any.
fn counts(results: &Results, id: &str) -> Vec<(u64, u64)> {
    let rows = results.rows().filter(|row| row.id == id);
    let with = rows.filter(|row| row.counts.contains_key("sent"));
    with.map(|row| {
        for wrong in ["lost", "duplicated", "out_of_order"] {
            assert_eq!(row.counts[wrong], 0, "{row:?}");
        }
        (row.counts["sent"], row.counts["delivered"])
    })
    .collect()
}

fn count(results: &Results, id: &str, name: &str) -> u64 {
    let rows = results.rows().filter(|row| row.id == id);
    rows.filter_map(|row| row.counts.get(name)).sum()
}
