use hubbub_stack::{Process, Spec};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

fn shell(dir: &Path, script: &str) -> Process {
    Process::new(Spec {
        name: "shell".to_owned(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        log: dir.join("shell.log"),
        run_as: None,
        stop_signal: Signal::SIGTERM,
        stop_grace: Duration::from_secs(5),
    })
}

/// Waits until the log has so many lines.
async fn lines(process: &Process, n: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let text = process.log_since_start();
        if text.lines().count() >= n {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "{text:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The letter that /proc gives a process; `None` if there is no such.
fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn exit_codes_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell(
        dir.path(),
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
    );
    assert!(process.exited().await.is_none());
    process.spawn().await.unwrap();
    lines(&process, 1).await;
    assert_eq!(process.stop().await.unwrap().code(), Some(7));
    assert_eq!(process.exited().await.unwrap().code(), Some(7));
    process.spawn().await.unwrap();
    process.kill().await;
    assert_eq!(process.exited().await.unwrap().code(), None);
}

/// Waits until a process that was sent SIGSTOP stands still: one that is in the kernel without a
/// wait that signals end, as in the middle of a fork, finishes that first.
async fn stopped(pid: &str) {
    let limit = Instant::now() + Duration::from_secs(5);
    while state(pid) != Some('T') {
        assert!(Instant::now() < limit, "{pid} is {:?}", state(pid));
        sleep(Duration::from_millis(1)).await;
    }
}

/// Descendants that are forked all the time, each in a process group of its own.
#[tokio::test]
async fn pause_stops_and_kill_ends_a_family_that_keeps_forking() {
    let dir = tempfile::tempdir().unwrap();
    let script = "while :; do setsid sleep 60 & echo $!; [ $! ] && sleep 0.002; done";
    let process = shell(dir.path(), script);
    process.spawn().await.unwrap();
    lines(&process, 20).await;
    process.pause();
    let paused = lines(&process, 20).await;
    let sleepers = || {
        let text = process.log_since_start();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sleepers(), paused, "it forked on");
    let root = process.pid().unwrap().to_string();
    for pid in paused.iter().chain([&root]) {
        stopped(pid).await;
    }
    process.resume();
    lines(&process, paused.len() + 20).await;
    process.kill().await;
    for pid in sleepers() {
        assert!(matches!(state(&pid), None | Some('Z' | 'X')), "{pid}");
    }
}

/// Kills, stops and starts from all sides: one runs at a time and none is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_kills_and_starts_leave_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $$; exec sleep 60";
    let process = std::sync::Arc::new(shell(dir.path(), script));
    let mut tasks = JoinSet::new();
    for i in 0..6 {
        let process = std::sync::Arc::clone(&process);
        tasks.spawn(async move {
            for _ in 0..15 {
                match i {
                    0 => process.kill().await,
                    1 => drop(process.stop_by(Signal::SIGTERM, Duration::ZERO).await),
                    // A supervisor.
                    2 => {
                        process.spawn().await.unwrap();
                        process.exited().await.unwrap();
                    }
                    _ => process.spawn().await.unwrap(),
                }
                tokio::task::yield_now().await;
            }
        });
        // The supervisor's last start wants somebody who ends it.
    }
    let all = async {
        while tasks.len() > 1 {
            tasks.join_next().await.unwrap().unwrap();
        }
        while !tasks.is_empty() {
            process.kill().await;
            sleep(Duration::from_millis(1)).await;
            while let Some(done) = tasks.try_join_next() {
                done.unwrap();
            }
        }
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
    process.spawn().await.unwrap();
    let pids = std::fs::read_to_string(process.log_path()).unwrap();
    let running = process.pid().unwrap().to_string();
    for pid in pids.lines().filter(|pid| **pid != running) {
        assert!(
            matches!(state(pid), None | Some('Z' | 'X')),
            "{pid} is left"
        );
    }
}

/// What is meant is the process that ran when it was called, not its successor.
#[tokio::test]
async fn stop_does_not_end_the_successor() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell(
        dir.path(),
        "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done",
    );
    process.spawn().await.unwrap();
    lines(&process, 1).await;
    let (stopped, successor) = tokio::join!(process.stop(), async {
        process.exited().await;
        process.spawn().await.unwrap();
        process.pid().unwrap()
    });
    assert_eq!(stopped.unwrap().code(), Some(0));
    assert_eq!(process.pid(), Some(successor));
}

#[tokio::test]
async fn wall_clock_of_one_process_jumps_while_it_runs() {
    let Some(library) = hubbub_stack::environment::faketime() else {
        eprintln!("libfaketime is not installed: nothing to test");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    std::fs::write(&clock, "+0\n").unwrap();
    // One process that looks at the clock again and again, unlike `date` in a loop.
    let script =
        "$| = 1; while (1) { print int(time / 3600), qq(\\n); select undef, undef, undef, 0.02 }";
    let process = shell(dir.path(), &format!("exec perl -e '{script}'"));
    process.set_env("LD_PRELOAD", &library.display().to_string());
    process.set_env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
    process.set_env("FAKETIME_NO_CACHE", "1");
    process.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    process.spawn().await.unwrap();
    let before: u64 = lines(&process, 1).await[0].parse().unwrap();
    std::fs::write(&clock, "+100h\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let text = process.log_since_start();
        let now: u64 = text.lines().last().unwrap().parse().unwrap();
        if now >= before + 100 {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(20)).await;
    }
    process.kill().await;
}
