//! One thread that starts every child process.
//!
//! Children carry `PR_SET_PDEATHSIG`, so that none outlives us even when we are killed with -9.
//! The kernel sends that signal when the *thread* that spawned the child ends, so children must
//! not be spawned from a runtime's workers: a test's runtime ends long before the test binary.

use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::oneshot;

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<Newborn>>,
}

/// A child that ends unless somebody takes it: its caller may go away at any moment, also while
/// the answer is on its way.
#[derive(Debug)]
struct Newborn(Option<Child>);

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(mut orphan) = self.0.take() {
            orphan.kill().ok();
            orphan.wait().ok();
        }
    }
}

/// Lives as long as the process. Starting a child takes a millisecond, so a full queue (which
/// blocks the caller) is not a state that lasts.
static SPAWNER: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = sync_channel::<Job>(64);
    std::thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for Job { mut command, reply } in inbox {
                let child = command.spawn().map(|child| Newborn(Some(child)));
                // A caller that went away leaves a child behind, which ends here.
                reply.send(child).map_err(drop).ok();
            }
        })
        .expect("a process that may not start one thread cannot do anything");
    jobs
});

/// Starts `command` on the spawner thread. Cancelling the future ends the child.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = oneshot::channel();
    SPAWNER
        .send(Job { command, reply })
        .expect("the spawner thread runs as long as the process");
    let answer = answer.await;
    let mut newborn = answer.expect("the spawner thread answers every job it takes")?;
    Ok(newborn.0.take().expect("only its caller takes it"))
}
