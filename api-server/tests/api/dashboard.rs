//! The dashboard's stream, with pods of this test on the bus.

use std::time::Duration;

use hubbub_client::{Board, Dashboard, HttpError, Look, Seen};
use hubbub_protocol::{
    ChannelId, ChannelLetter,
    events::{Group, RowId},
    http::ChannelKind,
};
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, interval, timeout},
};

mod fakes;

use self::fakes::Fakes;
use crate::support::{Caller, LONG, World, eventually, token_of};

/// A caller's stream and what it adds up to.
struct Looking {
    stream: Dashboard,
    board: Board,
    seen: Vec<Seen>,
}

impl Looking {
    async fn open(world: &World, who: &Caller, look: Look) -> Result<Self, HttpError> {
        Ok(Self {
            stream: Dashboard::open(&world.api, &who.token, &look).await?,
            board: Board::default(),
            seen: Vec::new(),
        })
    }

    /// The next event; an error where the stream has ended.
    async fn next(&mut self) -> anyhow::Result<&Seen> {
        let seen = self.stream.next().await?;
        let seen = seen.ok_or_else(|| anyhow::anyhow!("the stream has ended"))?;
        self.board.apply(&seen);
        self.seen.push(seen);
        Ok(self.seen.last().expect("just pushed"))
    }

    /// Reads until `done` holds.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + LONG;
        while !done(self) {
            let read = tokio::time::timeout_at(end, self.next()).await;
            if read.is_err() {
                anyhow::bail!("not within {LONG:?}: {what}: {:?}", self.board);
            }
            read??;
        }
        Ok(())
    }

    fn connections(&self, id: RowId) -> Option<u64> {
        self.board.channel(id).map(|row| row.connections)
    }

    fn is_complete(&self) -> bool {
        self.board.now.as_ref().is_some_and(|now| now.complete)
    }
}

fn direct(n: i64) -> ChannelId {
    ChannelId::new(ChannelLetter::Direct, n).expect("from 1")
}

fn code(error: &HttpError) -> (u16, &'static str) {
    let body = error.body().expect("the server's own error");
    (body.status(), body.code.as_str())
}

#[tokio::test]
async fn stream_shows_what_pods_have_to_those_who_may_see_it() -> anyhow::Result<()> {
    let world = World::new("dashboard").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let open = world.channel(ChannelKind::Public, &john, &[]).await?;
    let hers = world.channel(ChannelKind::Private, &john, &[&mary]).await?;
    let his = world.channel(ChannelKind::Private, &john, &[]).await?;
    let fakes = Fakes::start(&world, 2).await?;
    for (pod, channel, connections) in [
        (1, open.id, 2),
        (2, open.id, 3),
        (1, hers.id, 4),
        (2, his.id, 9),
        (2, direct(77), 6),
    ] {
        fakes.set(pod, channel, connections);
    }
    assert_eq!(fakes.watched(), 0);
    let mut look = Looking::open(&world, &mary, Look::default()).await?;
    look.until("complete", Looking::is_complete).await?;
    assert!(
        matches!(look.seen[0], Seen::Snapshot(_)),
        "a snapshot comes first"
    );
    let now = look.board.now.clone().expect("a snapshot");
    assert_eq!(
        (now.totals.pods, now.totals.channels, now.more),
        (2, 4, 0),
        "{now:?}"
    );
    let (private, all) = (RowId::Group(Group::Private), RowId::Group(Group::Direct));
    let rows = |look: &Looking| {
        [
            RowId::Channel(open.id),
            RowId::Channel(hers.id),
            private,
            all,
        ]
        .map(|row| look.connections(row))
    };
    assert_eq!(rows(&look), [Some(5), Some(4), Some(9), Some(6)]);
    let text = serde_json::to_string(&now)?;
    let foreign = his.name.clone().expect("a name");
    assert!(!text.contains(&foreign) && !text.contains(&his.id.to_string()));
    // A change comes as one.
    fakes.set(1, open.id, 1);
    fakes.set(2, direct(77), 0);
    look.until("the change", |look| {
        rows(look) == [Some(4), Some(4), Some(9), None]
    })
    .await?;
    assert!(
        look.seen[1..]
            .iter()
            .all(|seen| matches!(seen, Seen::Change(_)))
    );
    // Whoever enters or leaves a channel sees it, or does not.
    let path = format!("/channels/{}/members/{}", hers.id, mary.id());
    let (status, body) = world.send(Method::DELETE, &path, Some(&john), None).await?;
    assert_eq!(status, 200, "{body}");
    look.until("the row is gone", |look| {
        rows(look) == [Some(4), None, Some(13), None]
    })
    .await?;
    // The last one who goes ends it for all.
    fakes.until_watched(2).await?;
    let mut second = Looking::open(&world, &john, Look::default()).await?;
    drop(look);
    let metrics = format!("{}/metrics", world.ops);
    eventually("the end of the first stream", || async {
        let text = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        text.contains("hubbub_api_dashboard_streams 1\n")
            .then_some(())
    })
    .await?;
    fakes.set(1, open.id, 7);
    second
        .until("a report after it", |look| rows(look)[0] == Some(10))
        .await?;
    assert_eq!(fakes.watched(), 2, "another one looks");
    drop(second);
    fakes.until_watched(0).await
}

#[tokio::test]
async fn reports_that_were_lost_are_made_up_for() -> anyhow::Result<()> {
    let world = World::new("dashboard-lost").await?;
    let mary = world.caller("mary").await?;
    let open = world.channel(ChannelKind::Public, &mary, &[]).await?;
    let fakes = Fakes::start(&world, 2).await?;
    let look = Look {
        channel: Some(open.id),
        ..Look::default()
    };
    let mut look = Looking::open(&world, &mary, look).await?;
    look.until("complete", Looking::is_complete).await?;
    fakes.lose_reports();
    fakes.set(1, open.id, 3);
    look.until("the count", |look| {
        look.connections(RowId::Channel(open.id)) == Some(3)
    })
    .await?;
    let metrics = reqwest::get(format!("{}/metrics", world.ops)).await?;
    let metrics = metrics.text().await?;
    let gaps = metrics
        .lines()
        .find_map(|line| line.strip_prefix("hubbub_api_dashboard_gaps_total "))
        .unwrap_or_default();
    assert!(gaps.parse::<u64>()? > 0, "{gaps}");
    // Every subscription is cut, and what is said meanwhile is heard by nobody.
    world
        .env
        .redis()
        .command(&["CLIENT", "KILL", "TYPE", "pubsub"])
        .await?;
    fakes.lose_reports();
    fakes.set(2, open.id, 4);
    look.until("the count", |look| {
        look.connections(RowId::Channel(open.id)) == Some(7)
    })
    .await?;
    look.until("the word that records were missed", |look| {
        look.seen.contains(&Seen::Missed)
    })
    .await
}

#[tokio::test]
async fn records_pass_until_the_member_is_removed() -> anyhow::Result<()> {
    let world = World::new("dashboard-records").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(ChannelKind::Private, &john, &[&mary]).await?;
    let fakes = Fakes::start(&world, 1).await?;
    let look = Look {
        channel: Some(channel.id),
        ..Look::default()
    };
    let stranger = world.caller("frank").await?;
    let refused = Looking::open(&world, &stranger, look.clone()).await;
    assert_eq!(
        code(&refused.err().expect("no member")),
        (404, "channel_not_found")
    );
    let mut hers = Looking::open(&world, &mary, look.clone()).await?;
    let mut his = Looking::open(&world, &john, look).await?;
    for look in [&mut hers, &mut his] {
        look.until("who listens", |look| {
            look.seen.iter().any(|seen| matches!(seen, Seen::Live(_)))
        })
        .await?;
    }
    let has = |text: &'static str| {
        move |look: &Looking| {
            let mut seen = look.seen.iter();
            seen.any(|seen| matches!(seen, Seen::Record(frame) if frame.contains(text)))
        }
    };
    fakes.say(channel.id, &john, 1, "before").await?;
    hers.until("a record", has("before")).await?;
    his.until("a record", has("before")).await?;
    let path = format!("/channels/{}/members/{}", channel.id, mary.id());
    let (status, body) = world.send(Method::DELETE, &path, Some(&john), None).await?;
    assert_eq!(status, 200, "{body}");
    fakes.say(channel.id, &john, 2, "after").await?;
    his.until("a record", has("after")).await?;
    hers.until("the word that it is over", |look| {
        look.seen.contains(&Seen::Left)
    })
    .await?;
    fakes.say(channel.id, &john, 3, "later").await?;
    his.until("a record", has("later")).await?;
    // The rest of her stream goes on.
    let open = world.channel(ChannelKind::Public, &john, &[]).await?;
    fakes.set(1, open.id, 2);
    hers.until("another channel", |look| {
        look.connections(RowId::Channel(open.id)) == Some(2)
    })
    .await?;
    assert!(!has("after")(&hers) && !has("later")(&hers));
    Ok(())
}

#[tokio::test]
async fn five_thousand_sockets_and_five_hundred_channels_stay_readable() -> anyhow::Result<()> {
    let world = World::new("dashboard-big").await?;
    let mary = world.caller("mary").await?;
    let mut channels = Vec::new();
    for _ in 0..500 {
        channels.push(world.channel(ChannelKind::Public, &mary, &[]).await?.id);
    }
    let fakes = Fakes::start(&world, 5).await?;
    let load = |extra: u64| {
        for pod in 1..=5 {
            for (n, channel) in (0..).zip(&channels) {
                fakes.set(pod, *channel, 2 + n % 17 + extra);
            }
        }
    };
    load(0);
    fakes.set_sockets(1_000);
    let look = Look {
        top: Some(40),
        ..Look::default()
    };
    let begun = Instant::now();
    let mut look = Looking::open(&world, &mary, look).await?;
    look.until("complete", Looking::is_complete).await?;
    let took = begun.elapsed();
    let now = look.board.now.clone().expect("a snapshot");
    assert_eq!((now.totals.sockets, now.totals.channels), (5_000, 500));
    assert_eq!((now.channels.len(), now.more), (40, 460));
    assert_eq!(now.channels[0].connections, 90);
    for round in 1..=5 {
        load(round);
        look.until("the change", |look| {
            let now = look.board.now.as_ref();
            now.is_some_and(|now| now.channels[0].connections == 90 + 5 * round)
        })
        .await?;
    }
    for seen in &look.seen {
        let rows = match seen {
            Seen::Snapshot(snapshot) => snapshot.channels.len(),
            Seen::Change(change) => change.channels.len() + change.channels_gone.len(),
            _ => 0,
        };
        assert!(rows <= 80, "{rows} rows in one event");
    }
    assert!(took < Duration::from_secs(3), "complete after {took:?}");
    // All of them, page by page.
    let mut found = Vec::new();
    while let offset @ 0..500 = found.len() {
        let path = format!("/api/connections?offset={offset}&limit=200");
        let (status, page) = world.get(&path, &mary).await?;
        assert_eq!((status, &page["total"]), (200, &500.into()), "{page}");
        let items = page["items"].as_array().expect("rows");
        found.extend(items.iter().map(|row| row["channel"].clone()));
    }
    found.sort_by_key(|id| id.to_string());
    found.dedup();
    assert_eq!(found.len(), 500);
    Ok(())
}

#[tokio::test]
async fn page_of_connections_watches_for_a_moment_alone() -> anyhow::Result<()> {
    let world = World::new("dashboard-page").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let open = world.channel(ChannelKind::Public, &john, &[]).await?;
    let his = world.channel(ChannelKind::Private, &john, &[]).await?;
    let fakes = Fakes::start(&world, 1).await?;
    fakes.set(1, open.id, 2);
    fakes.set(1, his.id, 3);
    // A page is given after half a second, complete or not.
    let complete = async |query: &str, who: &Caller| {
        let path = format!("/api/connections{query}");
        let answer = eventually(&path, || async {
            let (status, page) = world.get(&path, who).await.ok()?;
            (status != 200 || page["complete"] == true).then_some((status, page))
        });
        let (status, page) = answer.await?;
        anyhow::ensure!(status == 200, "{page}");
        anyhow::Ok(page)
    };
    let page = complete("", &mary).await?;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(page["items"][0]["connections"], 2);
    let name = open.name.as_deref().expect("a name").to_uppercase();
    for (query, expected) in [(name.as_str(), 1), ("%20nobody", 0)] {
        let page = complete(&format!("?name={query}"), &john).await?;
        assert_eq!(page["total"], expected, "{query}");
    }
    for bad in ["offset=-1", "limit=0", "limit=201", "offset=1000001"] {
        let (status, body) = world.get(&format!("/api/connections?{bad}"), &mary).await?;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &"invalid_field".into())
        );
    }
    fakes.until_watched(0).await
}

#[tokio::test]
async fn stream_goes_on_after_the_last_event_that_came() -> anyhow::Result<()> {
    let world = World::new("dashboard-resume").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let open = world.channel(ChannelKind::Public, &mary, &[]).await?;
    let fakes = Fakes::start(&world, 1).await?;
    fakes.set(1, open.id, 2);
    // Somebody else looks all the time, so that the picture stays.
    let mut other = Looking::open(&world, &john, Look::default()).await?;
    other.until("complete", Looking::is_complete).await?;
    let mut look = Looking::open(&world, &mary, Look::default()).await?;
    look.until("complete", Looking::is_complete).await?;
    let after = look.stream.last_id().map(str::to_owned);
    let board = look.board.clone();
    drop(look);
    let metrics = format!("{}/metrics", world.ops);
    eventually("one stream", || async {
        let text = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        let line = "hubbub_api_dashboard_streams 1";
        text.lines().find(|found| *found == line).map(drop)
    })
    .await?;
    fakes.set(1, open.id, 5);
    let again = Look {
        after,
        ..Look::default()
    };
    let mut look = Looking::open(&world, &mary, again.clone()).await?;
    look.board = board;
    look.until("the change", |look| {
        look.connections(RowId::Channel(open.id)) == Some(5)
    })
    .await?;
    let snapshots = |look: &Looking| {
        let seen = look.seen.iter();
        seen.filter(|seen| matches!(seen, Seen::Snapshot(_)))
            .count()
    };
    assert_eq!(snapshots(&look), 0, "{:?}", look.seen);
    // What is not known, or another one's, begins with a snapshot.
    for (who, after) in [(&john, again.after), (&mary, Some("nobody-7".to_owned()))] {
        let look = Look {
            after,
            ..Look::default()
        };
        let mut look = Looking::open(&world, who, look).await?;
        look.next().await?;
        assert_eq!(snapshots(&look), 1);
    }
    Ok(())
}

/// A line of the server's metrics.
async fn metric(world: &World, series: &str) -> Option<u64> {
    let text = reqwest::get(format!("{}/metrics", world.ops)).await.ok()?;
    let text = text.text().await.ok()?;
    let value = |line: &str| line.strip_prefix(series)?.trim().parse().ok();
    text.lines().find_map(value)
}

#[tokio::test]
async fn stream_that_nobody_reads_is_cut_and_leaves_no_more_than_its_bound() -> anyhow::Result<()> {
    /// What the server has written by then: what its own buffers and the kernel's take.
    const BOUND: usize = 256 * 1024;
    let world = World::new("dashboard-deaf").await?;
    let mary = world.caller("mary").await?;
    let mut channels = Vec::new();
    for _ in 0..200 {
        channels.push(world.channel(ChannelKind::Public, &mary, &[]).await?.id);
    }
    let fakes = Fakes::start(&world, 1).await?;
    let addr = world.api.trim_start_matches("http://");
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 * 1024)?;
    let mut deaf = socket.connect(addr.parse()?).await?;
    let head = format!(
        "GET /api/events?top=200 HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {}\r\n\r\n",
        mary.token
    );
    deaf.write_all(head.as_bytes()).await?;
    fakes.until_watched(1).await?;
    // Every row changes all the time, so that there is always something to be written.
    let changes = async {
        let mut tick = interval(Duration::from_millis(100));
        for round in 1.. {
            tick.tick().await;
            for channel in &channels {
                fakes.set(1, *channel, round);
            }
        }
    };
    let slow = "hubbub_api_dashboard_events_total{kind=\"slow\"} ";
    let cut = eventually("the cut", || async {
        (metric(&world, slow).await? == 1).then_some(())
    });
    // Waits for the cut; the changes have no end.
    tokio::select! {
        cut = cut => cut?,
        () = changes => unreachable!("they have no end"),
    }
    fakes.until_watched(0).await?;
    let streams = metric(&world, "hubbub_api_dashboard_streams ").await;
    assert_eq!(streams, Some(0));
    // What was kept for it, should it read after all.
    let (mut kept, mut bytes) = (0, vec![0; 64 * 1024]);
    loop {
        let read = timeout(LONG, deaf.read(&mut bytes)).await??;
        kept += read;
        if read == 0 || bytes[..read].ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    anyhow::ensure!(kept < BOUND, "{kept} bytes were kept for a dead reader");
    Ok(())
}

/// One more stream of this user is refused for this bound.
async fn refused(world: &World, who: &Caller, limit: u64) {
    let refused = Looking::open(world, who, Look::default()).await;
    let refused = refused.err().expect("no place is left");
    assert_eq!(code(&refused), (503, "overloaded"));
    let body = refused.body().expect("the server's own error");
    assert_eq!((body.limit, body.retryable), (Some(limit), true));
}

#[tokio::test]
async fn streams_are_bounded_and_a_drain_says_goodbye() -> anyhow::Result<()> {
    let mut world = World::new("dashboard-bounds").await?;
    let mary = world.caller("mary").await?;
    let fakes = Fakes::start(&world, 1).await?;
    for bad in ["top=0", "top=201", "channel=nobody"] {
        let (status, body) = world.get(&format!("/api/events?{bad}"), &mary).await?;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &"invalid_field".into())
        );
    }
    let (status, _) = world.send(Method::GET, "/api/events", None, None).await?;
    assert_eq!(status, 401);
    // Nobody takes everybody's places.
    let mut all = Vec::new();
    for n in 0..20 {
        let who = world.caller(&format!("viewer-{n}")).await?;
        for _ in 0..10 {
            all.push(Looking::open(&world, &who, Look::default()).await?);
        }
        refused(&world, &who, if n == 19 { 200 } else { 10 }).await;
    }
    refused(&world, &mary, 200).await;
    // A stream ends with its token, which is taken for half a minute longer than it says.
    drop(all.pop());
    let look = eventually("room", || async {
        let short = Caller {
            token: token_of("mary", -28),
            ..mary.clone()
        };
        Looking::open(&world, &short, Look::default()).await.ok()
    });
    let mut look = look.await?;
    let end = async { while look.next().await.is_ok() {} };
    timeout(LONG, end).await?;
    drop(all.pop());
    eventually("room", || async {
        Looking::open(&world, &mary, Look::default())
            .await
            .ok()
            .map(drop)
    })
    .await?;
    all.truncate(2);
    let mut look = all.pop().expect("a stream");
    look.until("complete", Looking::is_complete).await?;
    world.lifecycle.begin_drain("test");
    look.until("goodbye", |look| {
        matches!(look.seen.last(), Some(Seen::Goodbye(_)))
    })
    .await?;
    assert_eq!(look.stream.next().await?, None, "the stream ends in order");
    let ended = timeout(LONG, world.running.join_next()).await?;
    ended.expect("one task was begun")??;
    fakes.until_watched(0).await
}
