//! Thousands of sockets lose their connection at once.

use std::{collections::BTreeMap, time::Duration};

use hubbub_stack::Service;
use tokio::time::{Instant, sleep};

use crate::{
    StormArgs,
    costs::{Queries, Rss},
    crowd::Crowd,
    ending::Ending,
    leg::Leg,
    life::Outage,
    meter::{Meter, Process, rss},
    output,
    storm_report::{HANDSHAKES_A_SECOND, Storm, StormReport},
    town::{Plan, Town},
    writers::Writers,
};

/// A few talk, the others listen.
const WRITERS: usize = 4;
/// Everybody has come back by then, or never will.
const PATIENCE: Duration = Duration::from_secs(90);
/// A reload that cuts sockets does so by then.
const RELOAD: Duration = Duration::from_secs(5);
/// How long the questions to the store are counted while nothing happens.
const CALM: Duration = Duration::from_secs(10);

/// Runs the storms, prints a table, writes `storm.json`. `true`: nothing was lost or doubled, and
/// every target was met.
pub async fn storm(args: StormArgs) -> anyhow::Result<bool> {
    let report = run_storm(&args).await?;
    println!("{}", report.table());
    output::write(&args.out, "storm.json", &report)?;
    Ok(report.passed())
}

/// The same without a word.
pub async fn run_storm(args: &StormArgs) -> anyhow::Result<StormReport> {
    output::say("starting the servers and making the people");
    let env = environment(args);
    let plan = Plan {
        sockets: args.sockets,
        channels: args.channels,
        writers: WRITERS,
        edges: args.edges,
        apis: 2,
        consumers: 1,
        haproxies: args.haproxies,
        env: &env,
        bin_dir: args.bin_dir.as_deref(),
    };
    let town = Town::build(&plan).await?;
    let result = Box::pin(weather(&town, args)).await;
    town.keep_logs(&args.out.join("logs"))?;
    let report = result?;
    town.stack.stop().await;
    Ok(report)
}

/// An edge that is drained sends away as many a second as the others take: the default is that
/// of two edges. What the caller sets comes later, and counts.
fn environment(args: &StormArgs) -> Vec<String> {
    let rate = HANDSHAKES_A_SECOND as usize * args.edges.saturating_sub(1).max(1);
    let mut env = vec![format!("HUBBUB_DRAIN_RATE={rate}")];
    env.extend(args.env.iter().cloned());
    env
}

/// Everything that a storm needs.
struct Scene<'a> {
    town: &'a Town,
    crowd: Crowd,
    meter: Meter,
    /// Of an edge without sockets, and of one socket.
    edge_empty: u64,
    edge_bytes: u64,
    ordinary_a_second: BTreeMap<String, f64>,
    settle: Duration,
    /// Between two processes of a roll.
    pause: Duration,
}

async fn weather(town: &Town, args: &StormArgs) -> anyhow::Result<StormReport> {
    let mut meter = Meter::new()?;
    let empty = meter.look(&town.stack).await?;
    let before = rss(std::process::id())?;
    output::say(&format!("{} sockets arrive", args.sockets));
    let begun = Instant::now();
    let crowd = Crowd::gather(town, args.sockets, args.arrivals).await?;
    let arrival_ms = begun.elapsed().as_millis() as u64;
    let full = meter.look(&town.stack).await?;
    let client_bytes = rss(std::process::id())?.saturating_sub(before) / args.sockets as u64;
    let writers = Writers::start(town, WRITERS, args.rate)?;

    let mut scene = Scene {
        town,
        crowd,
        meter,
        edge_empty: mean(&empty),
        edge_bytes: (mean(&full).saturating_sub(mean(&empty))) * full.len() as u64
            / args.sockets as u64,
        ordinary_a_second: BTreeMap::new(),
        settle: args.settle(),
        pause: args.pause(),
    };
    scene.measure_calm(args.settle().min(CALM)).await?;
    sleep(args.settle().saturating_sub(CALM)).await;
    let mut storms = Vec::new();
    for name in ["edge-kill", "haproxy-reload", "haproxy-kill", "roll"] {
        if args.wants(name) {
            storms.push(scene.storm(name).await?);
        }
    }
    output::say("the writers end; comparing");
    let ending = scene.end(writers).await;
    let shape = [
        ("sockets", args.sockets as f64),
        ("channels", args.channels as f64),
        ("edges", args.edges as f64),
        ("haproxies", town.fronts().len() as f64),
        ("messages_a_second", args.rate),
    ];
    let mut report = StormReport {
        shape: shape.map(|(name, value)| (name.to_owned(), value)).into(),
        build: output::build().to_owned(),
        environment: environment(args),
        arrival_ms,
        client_bytes,
        edge_bytes: scene.edge_bytes,
        ordinary_a_second: scene.ordinary_a_second.clone(),
        storms,
        ending,
        ..StormReport::default()
    };
    report.judge();
    Ok(report)
}

fn mean(processes: &[Process]) -> u64 {
    let sum: u64 = processes.iter().map(|process| process.rss).sum();
    sum / processes.len().max(1) as u64
}

impl Scene<'_> {
    async fn measure_calm(&mut self, window: Duration) -> anyhow::Result<()> {
        self.meter.look(&self.town.stack).await?;
        let before = self.questions();
        let begun = Instant::now();
        sleep(window).await;
        self.meter.look(&self.town.stack).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let more = less(self.questions(), &before).into_iter();
        self.ordinary_a_second = more.map(|(kind, n)| (kind, n as f64 / seconds)).collect();
        Ok(())
    }

    fn ordinary_for(&self, time: Duration) -> BTreeMap<String, f64> {
        let rates = self.ordinary_a_second.iter();
        rates
            .map(|(kind, rate)| (kind.clone(), rate * time.as_secs_f64()))
            .collect()
    }

    fn questions(&self) -> BTreeMap<String, u64> {
        self.meter.family("hubbub_edge_store_requests_total")
    }

    fn feed_events(&self) -> BTreeMap<String, u64> {
        self.meter.family("hubbub_edge_feed_events_total")
    }

    fn handshakes(&self) -> BTreeMap<String, u64> {
        self.meter.family("hubbub_edge_handshakes_total")
    }

    /// One storm, waited out, and the calm after it.
    async fn storm(&mut self, name: &str) -> anyhow::Result<Storm> {
        output::say(&format!("storm: {name}"));
        let stack = &self.town.stack;
        self.meter.look(stack).await?;
        let (questions, feed_events) = (self.questions(), self.feed_events());
        let handshakes = self.handshakes();
        let begun = Instant::now();
        let mut legs = Vec::new();
        match name {
            "edge-kill" => {
                let edge = stack.edge(0);
                edge.kill().await;
                let ended = begun.elapsed();
                edge.start().await?;
                legs.push((edge.name(), begun, ended, begun.elapsed(), None));
            }
            "haproxy-reload" => {
                let haproxy = stack.haproxy();
                haproxy.reloaded().await?;
                let ready = begun.elapsed();
                sleep(RELOAD).await;
                legs.push((haproxy.name(), begun, Duration::ZERO, ready, None));
            }
            "haproxy-kill" => {
                let haproxy = stack.haproxy();
                haproxy.kill().await;
                let ended = begun.elapsed();
                haproxy.start().await?;
                legs.push((haproxy.name(), begun, ended, begun.elapsed(), None));
            }
            _ => {
                for (n, edge) in stack.edges().iter().enumerate() {
                    if n > 0 {
                        sleep(self.pause).await;
                    }
                    legs.push(self.roll(edge).await?);
                }
            }
        }
        if let Err(error) = self.crowd.wait_up(PATIENCE).await {
            output::say(&error.to_string());
        }
        let lasted = begun.elapsed();
        self.meter.look(stack).await?;
        let queries = Queries {
            by_kind: less(self.questions(), &questions),
            feed_events: less(self.feed_events(), &feed_events),
            ordinary: self.ordinary_for(lasted),
            bound: (self.town.channels.len() * stack.edges().len()) as u64,
        };
        let legs = self.legs(name, legs);
        sleep(self.settle).await;
        let mut storm = Storm {
            name: name.to_owned(),
            legs,
            lasted_ms: lasted.as_millis() as u64,
            queries,
            handshakes: less(self.handshakes(), &handshakes),
            rss: Vec::new(),
        };
        for process in self.meter.look(stack).await? {
            storm.rss.push(Rss {
                expected: self.edge_empty + self.edge_bytes * process.most_sockets,
                process: process.name,
                sockets: process.sockets,
                most_sockets: process.most_sockets,
                bytes: process.rss,
            });
        }
        Ok(storm)
    }

    /// SIGTERM, the end, the start.
    async fn roll(&mut self, edge: &Service) -> anyhow::Result<Timeline> {
        self.meter.look_at(edge).await?;
        let signal = Instant::now();
        let status = edge.stop().await;
        let ended = signal.elapsed();
        edge.start().await?;
        let code = status.and_then(|status| status.code());
        Ok((edge.name(), signal, ended, signal.elapsed(), code))
    }

    fn legs(&self, name: &str, timelines: Vec<Timeline>) -> Vec<Leg> {
        let since = timelines.first().map(|(_, signal, ..)| *signal);
        let outages = since.map_or_else(Vec::new, |since| self.crowd.outages(since));
        let build = |(process, signal, ended, ready, code): Timeline| {
            let caused: Vec<&Outage> = outages
                .iter()
                .map(|(_, outage)| outage)
                .filter(|o| o.down_at >= signal && (name != "roll" || o.lost_pod == process))
                .collect();
            let mut leg = Leg::of(&process, signal, &caused);
            leg.exit_code = code;
            leg.ended_ms = ended.as_millis() as u64;
            leg.ready_again_ms = ready.as_millis() as u64;
            leg
        };
        timelines.into_iter().map(build).collect()
    }

    async fn end(&mut self, writers: Writers) -> Ending {
        let ledger = writers.finish().await;
        Ending::of(self.town, &self.crowd, &ledger).await
    }
}

/// Process, signal, until its end, until it was ready again, exit code.
type Timeline = (String, Instant, Duration, Duration, Option<i32>);

fn less(after: BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let of = |kind: &str| before.get(kind).copied().unwrap_or(0);
    let all = after.into_iter();
    all.map(|(kind, sum)| (kind.clone(), sum - of(&kind)))
        .filter(|(_, more)| *more > 0)
        .collect()
}
