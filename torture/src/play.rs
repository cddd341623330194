//! The phases of a run: calm, faults, healed, quiet, final reads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Result;
use hubbub_checker::{Event, Fault, FaultKind, history::Phase};
use hubbub_faults::{Ground, Injected, Seen, Shape};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cast::{Cast, Scene},
    device::Device,
    files::{RunDir, Schedule, write_json},
    ledger::Ledger,
    logs, lookers,
    pager::Paged,
    progress::Progress,
    quiet,
    readers::Audience,
    reads,
    recorder::Recorder,
    run::Order,
    sampler::Sampler,
    setup,
    system::System,
};

/// Between two lines for people.
const TELL: Duration = Duration::from_secs(5);
/// The first sample of the calm, when everybody has joined.
pub const SETTLED: Duration = Duration::from_secs(2);
/// Between two samples of the end.
const APART: Duration = Duration::from_secs(1);
/// The first sample after the faults, when what they left behind is gone.
pub const AFTER_FAULTS: Duration = Duration::from_secs(3);

/// What is left of a run when everything is read.
#[derive(Debug)]
pub struct Played {
    /// Of the history.
    pub lines: u64,
    /// What went wrong with the suite itself.
    pub errors: Vec<String>,
    /// Faults that nobody noticed.
    pub vacuous: Vec<u32>,
    /// Kinds that this machine cannot have.
    pub left_out: BTreeMap<FaultKind, String>,
    /// Messages of which nobody will ever know.
    pub abandoned: u64,
    /// What the one who only pages saw.
    pub paged: Paged,
}

/// Plays a run on a system that has just been started, and writes its history.
///
/// # Errors
/// When something that a run needs cannot be had: it proves nothing then.
pub async fn play(
    order: &Order,
    dir: &RunDir,
    system: &System,
    progress: &Arc<Progress>,
) -> Result<Played> {
    let profile = &order.profile;
    let seen = Arc::new(Seen::default());
    let (noting, watching) = (Arc::clone(&seen), Arc::clone(progress));
    let (recorder, recording) = Recorder::start(
        &dir.history(),
        vec![
            Arc::new(move |event| noting.note(event)),
            Arc::new(move |event| watching.note(event)),
        ],
    )?;
    let stop_logs = CancellationToken::new();
    let mut background = JoinSet::new();
    let following = logs::follow(system.logs(), recorder.clone(), stop_logs.clone());
    background.spawn(following);
    let people = Arc::new(setup::people(system, profile, &recorder).await?);
    progress.say(&format!(
        "{} channels with everybody in them; {} sockets connect",
        people.channels.len(),
        profile.sockets()
    ));
    let ledger = Arc::new(Ledger::default());
    let audience = Audience::connect(system, profile, &people, &recorder, &ledger).await?;
    let devices = audience.devices();

    let names = devices.iter().map(|device| device.name().to_owned());
    let shape = Shape::of(system.stack(), names.collect(), audience.busy.clone());
    let drawn = || hubbub_faults::schedule(&profile.faults, order.seed, &shape);
    let faults = order.faults.clone().unwrap_or_else(drawn);
    let left_out = hubbub_faults::left_out(&profile.faults, &shape);
    let left_out = left_out.into_iter().map(|(k, why)| (k, why.to_owned()));
    write_json(
        &dir.schedule(),
        &Schedule {
            profile: profile.name.clone(),
            seed: order.seed,
            faults: faults.clone(),
        },
    )?;
    let (burst, bursts) = watch::channel(Vec::new());
    let ground = ground(system, &devices, burst, seen);
    let sampler = Sampler::new(recorder.clone())?;

    recorder.record(Event::Phase(Phase::Calm));
    let start = Instant::now();
    let end = start + profile.writing();
    let stop = CancellationToken::new();
    let scene = Scene {
        system,
        profile,
        people: &people,
        recorder: &recorder,
        ledger: &ledger,
        board: &Arc::default(),
        seed: order.seed,
        start,
    };
    let cast = Cast::start(&scene, audience, &bursts, &stop)?;
    let mut teller = JoinSet::new();
    let (telling, told, count) = (Arc::clone(progress), Arc::clone(&ledger), faults.len());
    teller.spawn(async move { telling.tell(&told, count, end, TELL).await });
    sleep_until(start + SETTLED.min(profile.calm)).await;
    sampler.sample(system).await;
    sleep_until(start + profile.calm).await;
    sampler.sample(system).await;

    recorder.record(Event::Phase(Phase::Faults));
    let faults_end = Instant::now() + Duration::from_millis(profile.faults.phase_ms);
    let injected = inject(&faults, &ground, &recorder, async {
        loop {
            sleep(profile.sample).await;
            sampler.sample(system).await;
        }
    })
    .await;
    let settled = Instant::now() + profile.settle;
    sleep_until(faults_end).await;
    let (mut errors, vacuous) = match injected {
        Ok(injected) => (injected.errors, injected.vacuous),
        Err(error) => (vec![format!("faults: {error:#}")], Vec::new()),
    };

    recorder.record(Event::Phase(Phase::Healed));
    let healed = Instant::now();
    sleep_until(healed + AFTER_FAULTS.min(profile.healed)).await;
    sampler.sample(system).await;
    sleep_until((healed + profile.healed).max(end)).await;
    sampler.sample(system).await;
    stop.cancel();
    let paged = cast.finish(&mut errors).await;
    teller.shutdown().await;

    sampler.sample(system).await;
    recorder.record(Event::Phase(Phase::Quiet));
    let quiet = quiet::wait(system, &devices, profile.quiet).await?;
    if !quiet.is_complete() {
        progress.say(&format!(
            "not quiet after {:?}: {} records of lag, {} cursors behind: {}",
            profile.quiet,
            quiet.lag,
            quiet.count,
            quiet.behind.join("; ")
        ));
    }

    lookers::look_at_the_end(system, &people, &sampler, &recorder).await?;

    recorder.record(Event::Phase(Phase::Final));
    sampler.sample(system).await;
    // Before the reads: their own load fills the API servers' pools for a while.
    sleep_until(settled.max(Instant::now() + APART)).await;
    sampler.sample(system).await;
    sleep(APART).await;
    sampler.sample(system).await;
    reads::read_all(system, &people, &recorder, profile.single_rows_of).await?;
    stop_logs.cancel();
    while background.join_next().await.is_some() {}
    Ok(Played {
        lines: recorder.finish(recording)?,
        errors,
        vacuous,
        left_out: left_out.collect(),
        abandoned: ledger.abandoned(),
        paged,
    })
}

fn ground(
    system: &System,
    devices: &[Arc<Device>],
    burst: watch::Sender<Vec<String>>,
    seen: Arc<Seen>,
) -> Arc<Ground> {
    let link = |device: &Arc<Device>| (device.name().to_owned(), Arc::clone(device.link()));
    Arc::new(Ground {
        stack: Arc::clone(system.stack()),
        clients: devices.iter().map(link).collect(),
        burst,
        seen,
    })
}

/// Makes all faults, and does something else again and again meanwhile.
async fn inject(
    faults: &[Fault],
    ground: &Arc<Ground>,
    recorder: &Recorder,
    meanwhile: impl Future<Output = std::convert::Infallible>,
) -> Result<Injected> {
    let recorder = recorder.clone();
    let record = move |event| recorder.record(event);
    let injecting =
        hubbub_faults::inject(faults, Arc::clone(ground), CancellationToken::new(), record);
    // Waits for: the end of the last fault. What is done meanwhile has none.
    tokio::select! {
        injected = injecting => injected,
        never = meanwhile => match never {},
    }
}
