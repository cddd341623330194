//! Making the faults of a schedule, each at its time, and watching who notices.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use hubbub_checker::{Event, Fault};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Ground, Shape,
    deeds::{Deed, back, make_whole},
    effect::{Sight, effect},
    meters::Meters,
    rules::fits,
    schedule::most_at_once,
};

/// Between two looks at the processes' own figures.
const METERS: Duration = Duration::from_millis(500);
/// Between two looks at whether somebody has noticed a fault.
const LOOK: Duration = Duration::from_millis(250);
/// How long after its end a fault may be noticed.
const NOTICE: Duration = Duration::from_secs(3);
/// How long a fault may wait for others that took longer than was planned.
const TURN: Duration = Duration::from_secs(120);
/// A frozen process answers nothing.
const REQUEST: Duration = Duration::from_secs(2);

/// What became of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injected {
    /// Faults that were begun.
    pub started: u32,
    /// Those that are over, with what they hit ready again.
    pub ended: u32,
    /// Those that somebody noticed.
    pub seen: u32,
    /// Numbers of those that nobody noticed: they do not count.
    pub vacuous: Vec<u32>,
    /// Faults that could not be made, and processes that ended without one: a run with such is
    /// not what its schedule says.
    pub errors: Vec<String>,
}

/// Makes every fault at its time, counted from now, and returns when all are over, everything is
/// healed and every process is ready. As many are under way at once as the schedule says: a fault
/// whose turn has come waits where an earlier one takes longer than was planned.
///
/// `stop` ends it early: what is under way is undone, what is to come is left out. (Dropping the
/// future undoes nothing.) `record` gets [`Event::FaultStarted`], [`Event::FaultSeen`] when the
/// first effect is noticed and again with the totals, and [`Event::FaultEnded`].
///
/// # Errors
/// When the system cannot be brought back.
pub async fn inject(
    faults: &[Fault],
    ground: Arc<Ground>,
    stop: CancellationToken,
    record: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Injected> {
    let http = reqwest::Client::builder().timeout(REQUEST).no_proxy();
    let scene = Arc::new(Scene {
        shape: ground.shape(),
        meters: Meters::new()?,
        http: http.build().context("make an HTTP client")?,
        record: Box::new(record),
        under_way: watch::Sender::new(Vec::new()),
        at_once: most_at_once(faults).max(1),
        outcome: Mutex::default(),
        ground,
        stop,
    });
    scene.meters.read(&scene.ground.stack).await;
    let began = Instant::now();
    let mut keeper = JoinSet::new();
    keeper.spawn(keep(Arc::clone(&scene)));
    let mut acts = JoinSet::new();
    for fault in faults {
        acts.spawn(act(Arc::clone(&scene), fault.clone(), began));
    }
    while let Some(ended) = acts.join_next().await {
        if let Err(error) = ended {
            scene.fail(format!("a fault's task: {error}"));
        }
    }
    keeper.shutdown().await;
    let gone = make_whole(&scene.ground, &scene.http).await?;
    for name in gone {
        scene.fail(format!("{name} did not run when all faults were over"));
    }
    let mut outcome = scene.outcome.lock().clone();
    outcome.vacuous.sort_unstable();
    Ok(outcome)
}

/// What the acts share.
struct Scene {
    ground: Arc<Ground>,
    shape: Shape,
    meters: Meters,
    http: reqwest::Client,
    record: Box<dyn Fn(Event) + Send + Sync>,
    under_way: watch::Sender<Vec<Fault>>,
    at_once: usize,
    outcome: Mutex<Injected>,
    stop: CancellationToken,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// A fault's place among those that are under way, given back when it is dropped.
struct Turn<'a> {
    scene: &'a Scene,
    number: u32,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let all = &self.scene.under_way;
        all.send_modify(|all| all.retain(|fault| fault.number != self.number));
    }
}

impl Scene {
    fn fail(&self, error: String) {
        tracing::error!("{error}");
        self.outcome.lock().errors.push(error);
    }

    /// Waits until nothing that is under way stands in the way; `None` when all is to end.
    async fn turn(&self, fault: &Fault) -> Result<Option<Turn<'_>>> {
        let mut changed = self.under_way.subscribe();
        let until = Instant::now() + TURN;
        loop {
            let admitted = self.under_way.send_if_modified(|all| {
                let others: Vec<&Fault> = all.iter().collect();
                let fits = others.len() < self.at_once && fits(&others, fault, &self.shape);
                if fits {
                    all.push(fault.clone());
                }
                fits
            });
            if admitted {
                let number = fault.number;
                return Ok(Some(Turn {
                    scene: self,
                    number,
                }));
            }
            // Waits for: the end of another fault; the end of all; the end of its patience.
            tokio::select! {
                _ = changed.changed() => {}
                () = self.stop.cancelled() => return Ok(None),
                () = sleep_until(until) => {
                    let Fault { number, kind, target, .. } = fault;
                    anyhow::bail!("fault {number}, {kind:?} of {target}: others stood in its way for {TURN:?}")
                }
            }
        }
    }

    fn sight(&self) -> Sight {
        Sight {
            counts: self.ground.seen.counts(),
            risen: self.meters.risen(),
        }
    }
}

/// One fault, from the wait for its time to the look back.
async fn act(scene: Arc<Scene>, fault: Fault, began: Instant) {
    tokio::select! {
        () = sleep_until(began + Duration::from_millis(fault.start_ms)) => {}
        () = scene.stop.cancelled() => return,
    }
    let turn = match scene.turn(&fault).await {
        Ok(Some(turn)) => turn,
        Ok(None) => return,
        Err(error) => return scene.fail(format!("{error:#}")),
    };
    // A look of this moment: what others have caused is not this fault's doing.
    scene.meters.read(&scene.ground.stack).await;
    let before = scene.sight();
    (scene.record)(Event::FaultStarted(fault.clone()));
    scene.outcome.lock().started += 1;
    let deed = Deed::new(&scene.ground, &fault, &scene.http, &scene.stop);
    let noticed = || effect(&fault, &before, &scene.sight(), &deed.noted());
    let tell = |effect: String| {
        let number = fault.number;
        (scene.record)(Event::FaultSeen { number, effect });
    };
    let mut first = None;
    let performed = {
        let mut performed: BoxFuture<'_, Result<()>> = Box::pin(deed.perform());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Waits for: the end of the fault; the next look, until somebody has noticed.
        loop {
            tokio::select! {
                performed = &mut performed => break performed,
                _ = look.tick(), if first.is_none() => {
                    first = noticed();
                    first.iter().for_each(|effect| tell(effect.clone()));
                }
            }
        }
    };
    drop(turn);
    // One that failed was undone, too.
    (scene.record)(Event::FaultEnded {
        number: fault.number,
    });
    match performed {
        Ok(()) => scene.outcome.lock().ended += 1,
        Err(error) => scene.fail(format!("{error:#}")),
    }
    // What is noticed in the moments after it still counts, and the totals are told.
    let late = Instant::now() + NOTICE;
    let mut last = noticed();
    while last.is_none() && Instant::now() < late && !scene.stop.is_cancelled() {
        tokio::time::sleep(LOOK).await;
        last = noticed();
    }
    match last {
        Some(effect) => {
            scene.outcome.lock().seen += 1;
            if first.as_ref() != Some(&effect) {
                tell(effect);
            }
        }
        None => scene.outcome.lock().vacuous.push(fault.number),
    }
}

/// Reads the figures again and again, and brings back a process that ended though no fault had
/// asked for it, as a supervisor would: that is an error of the run.
async fn keep(scene: Arc<Scene>) {
    let mut turn = interval(METERS);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        scene.meters.read(&scene.ground.stack).await;
        for server in scene.ground.stack.servers() {
            let name = server.name();
            let hit = |fault: &Fault| fault.target.split_whitespace().any(|t| t == name);
            let explained = || scene.under_way.borrow().iter().any(hit);
            // A fault stands in the list before it strikes and leaves it when what it hit is
            // back, so it may begin or end between two of these looks, and not both.
            if server.is_running() || explained() || server.is_running() {
                continue;
            }
            let status = timeout(LOOK, server.exited()).await.ok().flatten();
            let end = status.map_or(String::new(), |s| {
                format!(" ({})", hubbub_stack::process::describe(s))
            });
            scene.fail(format!("{name} ended and no fault asked for it{end}"));
            if let Err(error) = back(server).await {
                tracing::warn!("{error:#}");
            }
        }
    }
}
