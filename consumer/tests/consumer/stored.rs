use std::collections::BTreeMap;

use anyhow::Result;
use hubbub_bus::{Event, Subscriber};
use hubbub_protocol::{BusChannel, ChannelEvent, Seq, Stored, partition_of};
use hubbub_store::Window;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{DEADLINE, PARTITIONS, World, channel, message};

/// Everything that was announced on channels 1 to `channels`, from before the consumer's start.
struct Announced {
    inbox: hubbub_bus::Inbox,
    tasks: JoinSet<Result<(), hubbub_bus::Error>>,
    stored: BTreeMap<i64, Vec<Stored>>,
}

impl Announced {
    async fn listen(world: &World, channels: i64) -> Result<Self> {
        let config = hubbub_bus::Config::new(&world.env.redis_url, "listener".parse()?);
        let metrics = hubbub_bus::Metrics::default();
        let (subscriber, inbox, task) = Subscriber::new(&config, &metrics);
        let mut announced = Self {
            inbox,
            tasks: JoinSet::from_iter([task.run(CancellationToken::new())]),
            stored: BTreeMap::new(),
        };
        for number in 1..=channels {
            subscriber.subscribe(BusChannel::Channel(channel(number)));
        }
        let mut confirmed = 0;
        while confirmed < channels {
            for event in announced.events().await? {
                confirmed += i64::from(matches!(event, Event::Subscribed(_)));
            }
        }
        Ok(announced)
    }

    async fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        timeout(DEADLINE, self.inbox.recv_all(&mut events)).await?;
        Ok(events)
    }

    /// Listens until a channel is announced through `seq`.
    async fn until(&mut self, number: i64, seq: Seq) -> Result<()> {
        let reached = |stored: &BTreeMap<i64, Vec<Stored>>| {
            let of = stored.get(&number);
            of.is_some_and(|of| of.iter().any(|stored| stored.through >= seq))
        };
        while !reached(&self.stored) {
            for event in self.events().await? {
                let Event::Message {
                    channel: BusChannel::Channel(id),
                    payload,
                } = event
                else {
                    continue;
                };
                let decoded = ChannelEvent::decode(id, &payload);
                if let Ok(ChannelEvent::Stored(stored)) = decoded {
                    self.stored.entry(id.number()).or_default().push(stored);
                }
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_stored_and_announced_without_a_gap() -> Result<()> {
    let world = World::new("every_record_is_stored").await?;
    let mut announced = Announced::listen(&world, 5).await?;
    let consumer = world.consumer().await?;
    let mut seqs: BTreeMap<i64, Vec<Seq>> = BTreeMap::new();
    for round in 0..60 {
        let number = round % 5 + 1;
        let seq = world
            .append(channel(number), &format!("text {round}"))
            .await?;
        seqs.entry(number).or_default().push(seq);
    }
    for (number, seqs) in &seqs {
        let last = *seqs.last().expect("12 each");
        announced.until(*number, last).await?;
        // The announcements of a channel join up from 0 on and list each row once.
        let mut head = Seq::ZERO;
        let mut listed = Vec::new();
        for stored in &announced.stored[number] {
            assert_eq!(stored.from, head, "channel {number}");
            head = stored.through;
            listed.extend(stored.seqs.clone().expect("few rows are listed"));
        }
        assert_eq!((&listed, head), (seqs, last), "channel {number}");
        let page = world
            .store
            .page(channel(*number), Window::Newest, 100)
            .await?;
        let stored: Vec<Seq> = page.rows.iter().map(|row| row.seq).collect();
        assert_eq!((&stored, page.head), (seqs, last), "channel {number}");
    }
    assert_eq!(world.settle().await?.rows, 60);
    announced.tasks.shutdown().await;
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_of_a_message_is_counted_and_not_stored_twice() -> Result<()> {
    let world = World::new("copy_of_a_message").await?;
    let consumer = world.consumer().await?;
    let (here, id) = (channel(3), Uuid::new_v4());
    let first = message(here, id, "as it was sent").encode();
    let other_text = message(here, id, "as a retry must not change it").encode();
    for payload in [first.clone(), first.clone(), other_text] {
        drop(world.append_raw(here, payload));
    }
    world.appender.flush(DEADLINE).await?;
    world.settle().await?;
    // In a later batch too.
    drop(world.append_raw(here, first));
    world.appender.flush(DEADLINE).await?;
    let total = world.settle().await?;
    assert_eq!((total.rows, total.duplicates, total.dead), (1, 3, 0));
    let page = world.store.page(here, Window::Newest, 10).await?;
    assert_eq!(page.rows.len(), 1);
    assert!(page.rows[0].body.contains("as it was sent"));
    assert!(page.head > page.rows[0].seq, "the head counts the copies");
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_buried_and_delays_nobody() -> Result<()> {
    let world = World::new("poison_is_buried").await?;
    let here = channel(1);
    let neighbour = (2..)
        .map(channel)
        .find(|other| partition_of(*other, PARTITIONS) != partition_of(here, PARTITIONS));
    let foreign = message(neighbour.expect("murmur2 spreads"), Uuid::new_v4(), "x");
    let with_text = |text: &str| {
        let good = String::from_utf8(message(here, Uuid::new_v4(), "TEXT").encode());
        let good = good.expect("JSON is UTF-8");
        good.replace("TEXT", text).into_bytes()
    };
    let other_version = String::from_utf8(with_text("x"))?.replace("\"v\":1", "\"v\":9");
    let poison: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0xff; 900_000],
        b"{}".to_vec(),
        other_version.into_bytes(),
        with_text("\\u0000"),
        with_text("\\ud800"),
        with_text(""),
        with_text(&"x".repeat(20_000)),
        "[".repeat(10_000).into_bytes(),
        b"{\"kind\":\"message\",\"channel\":\"C9999999999999999999\"}".to_vec(),
        foreign.encode(),
    ];
    for number in 0..1_000 {
        if let Some(poison) = poison.get(number / 90).filter(|_| number % 90 == 45) {
            drop(world.append_raw(here, poison.clone()));
        }
        let record = message(here, Uuid::new_v4(), &number.to_string());
        drop(world.append_raw(here, record.encode()));
    }
    world.appender.flush(DEADLINE).await?;
    let consumer = world.consumer().await?;
    let total = world.settle().await?;
    let expected = i64::try_from(poison.len())?;
    assert_eq!(
        (total.rows, total.duplicates, total.dead),
        (1_000, 0, expected)
    );
    consumer.stop().await
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn lost_announcement_is_lost_alone() -> Result<()> {
    let world = World::new("lost_announcement").await?;
    let mut announced = Announced::listen(&world, 1).await?;
    let env = [("FAILPOINTS", "consumer::before_announce=1*return")];
    let process = world.process("lossy", &env).await?;
    let first = world.append(channel(1), "not announced").await?;
    assert_eq!(world.settle().await?.rows, 1);
    let second = world.append(channel(1), "announced").await?;
    announced.until(1, second).await?;
    let expected = Stored {
        channel: channel(1),
        from: first,
        through: second,
        seqs: Some(vec![second]),
    };
    assert_eq!(announced.stored[&1], [expected]);
    process.stop().await;
    Ok(())
}
