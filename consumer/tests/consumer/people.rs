//! Records of every kind and marks, through the log into the store and onto the bus.
use std::time::Duration;

use anyhow::Result;
use hubbub_bus::{Event, Subscriber};
use hubbub_log::{Appender, Metrics, Report};
use hubbub_protocol::{
    Body, BusChannel, ChannelEvent, ChannelId, ChannelLetter, MarkRecord, MessageId,
    ReactionChange, Receipt, Record, Seq, UserEvent, UserId, partition_of,
};
use hubbub_store::Window;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{DEADLINE, PARTITIONS, World, channel, eventually};

fn direct(number: i64) -> ChannelId {
    ChannelId::new(ChannelLetter::Direct, number).expect("from 1")
}

fn user(number: i64) -> UserId {
    UserId::new(number).expect("from 1")
}

fn receipt(channel: ChannelId, who: i64, device: &str, read: u64) -> Receipt {
    Receipt {
        channel,
        user: user(who),
        device: device.parse().expect("a device"),
        delivered: Seq(read + 1),
        read: Seq(read),
    }
}

/// Appends marks as an edge would.
struct Marker(Appender<oneshot::Sender<Report>>);

impl Marker {
    fn new(world: &World) -> Result<Self> {
        let on_report = |asked: oneshot::Sender<Report>, report| {
            asked.send(report).ok();
        };
        let appender = Appender::start(&world.log.marks(), &Metrics::default(), on_report)?;
        Ok(Self(appender))
    }

    async fn raw(&self, channel: ChannelId, payload: Vec<u8>) -> Result<()> {
        let (asked, report) = oneshot::channel();
        let sent = self.0.append(channel, payload, asked);
        anyhow::ensure!(sent.is_ok(), "the queue has room");
        let report = report.await?;
        anyhow::ensure!(matches!(report, Report::Appended(_)), "{report:?}");
        Ok(())
    }

    async fn mark(&self, mark: &Receipt) -> Result<()> {
        let payload = MarkRecord(mark.clone()).encode();
        self.raw(mark.channel, payload).await
    }
}

async fn wait_for(world: &World, mark: &Receipt) {
    eventually("the cursor", async || {
        let found = world.store.receipts(mark.channel, &[mark.user]).await;
        found.is_ok_and(|found| {
            found.iter().any(|found| {
                found.device == mark.device
                    && (found.delivered, found.read) == (mark.delivered, mark.read)
            })
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_kind_become_rows_and_change_what_they_are_about() -> Result<()> {
    let world = World::new("records_of_every_kind").await?;
    let consumer = world.consumer().await?;
    let number = 5;
    // The direct channel of the same number is another one, with a head of its own.
    for here in [channel(number), direct(number)] {
        let id = || MessageId(Uuid::new_v4());
        let append = async |record: Record| match world.append_raw(here, record.encode()).await? {
            Report::Appended(appended) => Ok(appended.seq),
            other => anyhow::bail!("not appended: {other:?}"),
        };
        let root = append(Record::message(here, user(1), id(), "root".to_owned())).await?;
        let reply = Record::reply(here, user(2), id(), "reply".to_owned(), Some(root));
        let reply = append(reply).await?;
        let edit = Record::edit(here, user(1), id(), root, "better".to_owned(), false);
        let edit = append(edit).await?;
        let up = Record::reaction(
            here,
            user(2),
            id(),
            root,
            "+1".to_owned(),
            ReactionChange::Added,
        );
        append(up).await?;
        append(Record::identity(here, user(2), id(), 2)).await?;
        let last = append(Record::delete(here, user(2), id(), reply, false)).await?;
        eventually("the last record", async || {
            world.store.head(here).await.is_ok_and(|head| head == last)
        })
        .await;
        let rows = world.store.range(here, Seq::ZERO, Seq::MAX, 100).await?;
        assert_eq!(rows.len(), 6, "{here}");
        let body: Body = serde_json::from_str(&rows[0].body)?;
        let Body::Message {
            text,
            edited,
            reactions,
            replies,
            channel,
            ..
        } = body
        else {
            panic!("the root: {body:?}");
        };
        assert_eq!((channel, text.as_str()), (here, "better"));
        assert_eq!(edited.map(|edited| edited.seq), Some(edit));
        assert_eq!(reactions.len(), 1);
        assert_eq!(replies, None, "the only reply was deleted");
        let page = world.store.page(here, Window::Newest, 10).await?;
        assert_eq!(page.rows.len(), 2, "two messages");
    }
    assert_eq!(world.settle().await?.rows, 12);
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_move_cursors_and_tell_whom_they_concern() -> Result<()> {
    let world = World::new("marks_move_cursors").await?;
    let (public, private) = (channel(3), direct(4));
    let config = hubbub_bus::Config::new(&world.env.redis_url, "listener".parse()?);
    let metrics = hubbub_bus::Metrics::default();
    let (subscriber, mut inbox, task) = Subscriber::new(&config, &metrics);
    let mut tasks = JoinSet::from_iter([task.run(CancellationToken::new())]);
    let listened = [
        BusChannel::Channel(public),
        BusChannel::Channel(private),
        BusChannel::User(user(1)),
        BusChannel::User(user(2)),
        BusChannel::User(user(8)),
    ];
    let mut events = Vec::new();
    for to in listened.clone() {
        subscriber.subscribe(to);
    }
    let mut confirmed = 0;
    while confirmed < listened.len() {
        timeout(DEADLINE, inbox.recv_all(&mut events)).await?;
        let subscribed = |event: &Event| matches!(event, Event::Subscribed(_));
        confirmed += events.drain(..).filter(subscribed).count();
    }
    let consumer = world.consumer().await?;
    let marker = Marker::new(&world)?;
    let marks = [
        receipt(public, 1, "phone", 7),
        receipt(private, 2, "laptop", 9),
    ];
    // What cannot be read is dropped and holds nothing up; what went back moves nothing.
    marker.raw(public, b"junk".to_vec()).await?;
    for mark in &marks {
        marker.mark(mark).await?;
        marker
            .mark(&receipt(mark.channel, mark.user.number(), "old", 0))
            .await?;
        wait_for(&world, mark).await;
        let back = Receipt {
            delivered: Seq(2),
            read: Seq(1),
            ..mark.clone()
        };
        marker.mark(&back).await?;
    }
    // A last one, so that everything before it has been told.
    let last = [
        receipt(public, 8, "last", 1),
        receipt(private, 8, "last", 1),
    ];
    for last in &last {
        marker.mark(last).await?;
    }
    let mut told: Vec<(BusChannel, String)> = Vec::new();
    let is_last = |(_, payload): &&(BusChannel, String)| payload.contains("\"last\"");
    while told.iter().filter(is_last).count() < 3 {
        timeout(DEADLINE, inbox.recv_all(&mut events)).await?;
        for event in events.drain(..) {
            let Event::Message { channel, payload } = event else {
                continue;
            };
            let text = String::from_utf8(payload.to_vec())?;
            if text.contains("\"receipt\"") {
                told.push((channel, text));
            }
        }
    }
    let of = |name: BusChannel| -> Vec<&str> {
        let found = told.iter().filter(|(to, _)| *to == name);
        found.map(|(_, payload)| payload.as_str()).collect()
    };
    assert_eq!(of(BusChannel::Channel(public)), Vec::<&str>::new());
    let in_channel: Vec<_> = of(BusChannel::Channel(private))
        .into_iter()
        .map(|payload| ChannelEvent::decode(private, payload.as_bytes()))
        .collect();
    let event = |mark: &Receipt| Ok(ChannelEvent::Receipt(mark.clone()));
    assert_eq!(in_channel.len(), 3, "{in_channel:?}");
    assert!(in_channel.contains(&event(&marks[1])), "{in_channel:?}");
    for mark in &marks {
        let own = of(BusChannel::User(mark.user));
        let told = own.iter().filter(|payload| {
            let event = UserEvent::decode(payload.as_bytes());
            matches!(event, Ok(Some(UserEvent::Receipt { channel, read, ref device, .. }))
                if (channel, read) == (mark.channel, mark.read) && *device == mark.device)
        });
        assert_eq!(told.count(), 1, "{own:?}");
    }
    tasks.shutdown().await;
    consumer.stop().await
}

/// Killed between the commit of marks and their receipts, again and again, while cursors grow: no
/// cursor is lost, and none goes back, although batches come again.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn cursors_survive_aborts_and_never_go_back() -> Result<()> {
    let world = World::new("cursors_survive_aborts").await?;
    let marker = Marker::new(&world)?;
    let here = direct(9);
    let mut seen = Seq::ZERO;
    let mut grow = 0;
    for round in 0..2 {
        let env = [(
            "FAILPOINTS",
            "consumer::after_marks_before_receipts=2*off->return",
        )];
        let doomed = world.process(&format!("doomed{round}"), &env).await?;
        eventually("the abort", async || {
            grow += 1;
            let mark = receipt(here, 1, "phone", grow);
            marker.mark(&mark).await.expect("appended");
            let found = world.store.receipts(here, &[mark.user]).await;
            let read = found.expect("the store").first().map(|found| found.read);
            assert!(read.unwrap_or_default() >= seen, "it went back");
            seen = seen.max(read.unwrap_or_default());
            !doomed.is_running()
        })
        .await;
    }
    let healthy = world.process("healthy", &[]).await?;
    let last = receipt(here, 1, "phone", grow);
    wait_for(&world, &last).await;
    // A reader that lost its partition writes an old batch with its old position once more.
    let partition = partition_of(here, PARTITIONS);
    let old = receipt(here, 1, "phone", 1);
    assert_eq!(world.store.write_marks(partition, 1, &[old]).await?, []);
    let status = healthy.stop().await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    // The next one begins at that position and meets all marks again.
    let again = world.consumer().await?;
    let next = receipt(here, 1, "phone", grow + 1);
    marker.mark(&next).await?;
    wait_for(&world, &next).await;
    again.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_of_marks_that_was_made_anew_is_read_from_its_beginning() -> Result<()> {
    let world = World::new("topic_of_marks").await?;
    let marker = Marker::new(&world)?;
    let mark = receipt(direct(9), 1, "phone", 6);
    let partition = partition_of(mark.channel, PARTITIONS);
    // The position of a topic that is lost.
    world.store.write_marks(partition, 1_000, &[]).await?;
    marker.mark(&mark).await?;
    let consumer = world.consumer().await?;
    wait_for(&world, &mark).await;
    eventually("the new position", async || {
        let found = world.store.marks_positions(&[partition]).await;
        found.is_ok_and(|found| found == [(partition, 1)])
    })
    .await;
    consumer.stop().await
}

/// Marks wait for their shard, and records for theirs; neither waits for the other.
#[tokio::test(flavor = "multi_thread")]
async fn marks_without_a_shard_come_when_it_is_back() -> Result<()> {
    let mut world = World::new("marks_without_a_shard").await?;
    let proxy = hubbub_stack::Proxy::start(world.env.postgres_addr())?;
    let server = world.env.postgres_addr().to_string();
    let url = &mut world.at.shard_urls[1];
    *url = url.replace(&server, &proxy.addr().to_string());
    let on_shard = |shard: usize| {
        let mut channels = (1..).map(direct);
        let found = channels.find(|channel| world.store.shard_of(*channel) == shard);
        found.expect("murmur2 reaches both shards")
    };
    let (alive, away) = (on_shard(0), on_shard(1));
    let consumer = world.consumer().await?;
    let marker = Marker::new(&world)?;
    let before = receipt(away, 1, "phone", 1);
    marker.mark(&before).await?;
    wait_for(&world, &before).await;
    proxy.go_down();
    let missed = receipt(away, 1, "phone", 5);
    marker.mark(&missed).await?;
    let neighbour = receipt(alive, 1, "phone", 5);
    marker.mark(&neighbour).await?;
    timeout(Duration::from_secs(10), wait_for(&world, &neighbour)).await?;
    proxy.heal();
    wait_for(&world, &missed).await;
    consumer.stop().await
}
