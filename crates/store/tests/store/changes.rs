//! What edits, deletions, reactions and replies make of stored rows.

use hubbub_protocol::{
    Body, ChannelId, MessageId, ReactionChange, Record, Seq, UserId, http::Version, limits,
};
use hubbub_store::{Incoming, NewRow, Store, Window, Written};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::support::{World, append, assert_audit, channels_of, user};

const PARTITION: i32 = 2;

fn id(number: u64) -> MessageId {
    MessageId(Uuid::from_u128(u128::from(number)))
}

fn ts_ms(seq: u64) -> i64 {
    1_700_000_000_000 + i64::try_from(seq).expect("small")
}

/// Writes records at the seqs that follow `after`, as one batch; their message ids are their
/// seqs.
async fn write(
    store: &Store,
    partition: i32,
    after: &mut u64,
    records: Vec<Record>,
) -> anyhow::Result<Written> {
    let batch: Vec<Incoming> = records
        .into_iter()
        .map(|record| {
            *after += 1;
            Incoming::Row(NewRow::read(Seq(*after), ts_ms(*after), record))
        })
        .collect();
    Ok(append(store, partition, &batch).await?)
}

/// Every row of a channel.
async fn bodies(store: &Store, channel: ChannelId) -> anyhow::Result<Vec<(u64, Body)>> {
    let rows = store.range(channel, Seq::ZERO, Seq::MAX, 10_000).await?;
    rows.iter()
        .map(|row| Ok((row.seq.0, serde_json::from_str(&row.body)?)))
        .collect()
}

struct Says {
    channel: ChannelId,
    next: u64,
}

impl Says {
    fn id(&mut self) -> MessageId {
        self.next += 1;
        id(self.next)
    }

    fn message(&mut self, who: i64, text: &str, thread: Option<u64>) -> Record {
        let (id, text) = (self.id(), text.to_owned());
        Record::reply(self.channel, user(who), id, text, thread.map(Seq))
    }

    fn edit(&mut self, who: i64, target: u64, text: &str, as_admin: bool) -> Record {
        let (id, text) = (self.id(), text.to_owned());
        Record::edit(self.channel, user(who), id, Seq(target), text, as_admin)
    }

    fn delete(&mut self, who: i64, target: u64) -> Record {
        let id = self.id();
        Record::delete(self.channel, user(who), id, Seq(target), false)
    }

    fn react(&mut self, who: i64, target: u64, change: ReactionChange) -> Record {
        let (id, up) = (self.id(), "+1".to_owned());
        Record::reaction(self.channel, user(who), id, Seq(target), up, change)
    }
}

fn shown(body: &Body) -> (&str, Option<u64>, bool) {
    match body {
        Body::Message {
            text,
            edited,
            deleted,
            ..
        } => (text, edited.map(|edited| edited.seq.0), *deleted),
        Body::MessageChanged { text, .. } => (text, None, false),
        _ => ("", None, false),
    }
}

#[tokio::test]
async fn row_is_the_latest_version_and_versions_keep_the_earlier_ones() -> anyhow::Result<()> {
    let world = World::new("row_is_the_latest").await?;
    let (store, here) = (&world.store, channels_of(PARTITION, 1)[0]);
    let (mut says, mut at) = (
        Says {
            channel: here,
            next: 0,
        },
        0,
    );
    let said = vec![says.message(1, "one", None), says.message(2, "other", None)];
    assert_eq!(
        write(store, PARTITION, &mut at, said).await?.without_effect,
        0
    );
    // 3 counts, 4 is a stranger's, 5 is an admin's, 6 is about no message.
    let edits = vec![
        says.edit(1, 1, "two", false),
        says.edit(2, 1, "mine now", false),
        says.edit(3, 1, "three", true),
        says.edit(1, 3, "an edit of an edit", true),
    ];
    assert_eq!(
        write(store, PARTITION, &mut at, edits)
            .await?
            .without_effect,
        2
    );
    let rows = bodies(store, here).await?;
    assert_eq!(shown(&rows[0].1), ("three", Some(5), false));
    assert_eq!(shown(&rows[1].1), ("other", None, false));
    let texts: Vec<&str> = rows[2..].iter().map(|(_, body)| shown(body).0).collect();
    assert_eq!(texts, ["two", "", "three", ""]);
    let version = |seq, text: &str, who| {
        let (text, ts_ms) = (text.to_owned(), ts_ms(seq));
        let (seq, user) = (Seq(seq), user(who));
        let version = Version {
            seq,
            text,
            ts_ms,
            user,
        };
        (Seq(1), version)
    };
    let versions = store.versions(here, &[Seq(1), Seq(2)]).await?;
    assert_eq!(versions, [version(1, "one", 1), version(3, "two", 1)]);

    // Pages of history have messages alone, pages of records everything.
    let page = store.page(here, Window::Newest, 10).await?;
    let seqs: Vec<u64> = page.rows.iter().map(|row| row.seq.0).collect();
    assert_eq!((seqs.as_slice(), page.has_more), (&[1, 2][..], false));
    assert_eq!(page.head, Seq(6));
    for window in [
        Window::Newest,
        Window::After(Seq::ZERO),
        Window::Before(Seq(7)),
        Window::Around(Seq(4)),
    ] {
        let page = store.page_of_records(here, window, 10).await?;
        assert_eq!(page.rows.len(), 6, "{window:?}");
    }

    // Gone means gone, in whatever row it stood.
    let gone = vec![
        says.delete(2, 1),
        says.delete(1, 1),
        says.edit(1, 1, "no", false),
    ];
    assert_eq!(
        write(store, PARTITION, &mut at, gone).await?.without_effect,
        2
    );
    assert_eq!(store.versions(here, &[Seq(1)]).await?, []);
    let rows = bodies(store, here).await?;
    assert_eq!(shown(&rows[0].1), ("", None, true));
    assert_eq!(shown(&rows[1].1), ("other", None, false));
    let left = rows.iter().filter(|(_, body)| !shown(body).0.is_empty());
    assert_eq!(left.count(), 1, "{rows:?}");
    assert_audit(store).await
}

#[tokio::test]
async fn thread_counts_its_replies_and_reactions_their_users() -> anyhow::Result<()> {
    let world = World::new("thread_counts").await?;
    let (store, here) = (&world.store, channels_of(PARTITION, 1)[0]);
    let (mut says, mut at) = (
        Says {
            channel: here,
            next: 0,
        },
        0,
    );
    let (added, removed) = (ReactionChange::Added, ReactionChange::Removed);
    let said = vec![
        says.message(1, "root", None),
        says.message(2, "first", Some(1)),
        says.message(3, "second", Some(1)),
        says.message(2, "third", Some(1)),
        says.message(2, "a reply to a reply", Some(2)),
        says.message(2, "a reply to nothing", Some(90)),
        says.react(4, 1, added),
        says.react(5, 1, added),
    ];
    let written = write(store, PARTITION, &mut at, said).await?;
    assert_eq!(written.without_effect, 2);
    let more = vec![says.react(4, 1, removed), says.react(6, 2, removed)];
    assert_eq!(
        write(store, PARTITION, &mut at, more).await?.without_effect,
        1
    );
    let root = |rows: &[(u64, Body)]| match &rows[0].1 {
        Body::Message {
            replies, reactions, ..
        } => (replies.clone(), reactions.clone()),
        other => panic!("the root: {other:?}"),
    };
    let (replies, reactions) = root(&bodies(store, here).await?);
    let replies = replies.expect("a thread");
    assert_eq!((replies.count, replies.last_seq), (3, Seq(4)));
    assert_eq!(replies.users, [user(2), user(3)]);
    assert_eq!(reactions.len(), 1);
    assert_eq!(reactions[0].users, [user(5)]);

    let thread = store.replies(here, Seq(1), Seq::ZERO, 2).await?;
    let seqs =
        |page: &hubbub_store::Page| -> Vec<u64> { page.rows.iter().map(|row| row.seq.0).collect() };
    assert_eq!((seqs(&thread), thread.has_more), (vec![2, 3], true));
    let thread = store.replies(here, Seq(1), Seq(3), 2).await?;
    assert_eq!((seqs(&thread), thread.has_more), (vec![4], false));
    assert_eq!(thread.head, Seq(10));

    // In the next batches one reply goes, and then all.
    let gone = vec![says.delete(3, 3)];
    write(store, PARTITION, &mut at, gone).await?;
    let (replies, _) = root(&bodies(store, here).await?);
    assert_eq!(replies.map(|replies| replies.count), Some(2));
    let gone = vec![says.delete(2, 2), says.delete(2, 4)];
    write(store, PARTITION, &mut at, gone).await?;
    assert_eq!(root(&bodies(store, here).await?).0, None);

    let target = store.target(here, Seq(2)).await?;
    assert_eq!(target.head, Seq(13));
    let message = target.message.expect("a message");
    assert_eq!((message.author, message.thread), (user(2), Some(Seq(1))));
    assert!(message.deleted);
    let root = store.target(here, Seq(1)).await?.message.expect("the root");
    assert_eq!((root.deleted, root.thread), (false, None));
    // A reaction is no target, and neither is what is not there.
    for seq in [7, 14] {
        assert_eq!(store.target(here, Seq(seq)).await?.message, None);
    }
    assert_audit(store).await
}

#[tokio::test]
async fn edits_are_bounded_and_a_deletion_takes_them_all() -> anyhow::Result<()> {
    let world = World::new("edits_are_bounded").await?;
    let (store, here) = (&world.store, channels_of(PARTITION, 1)[0]);
    let mut says = Says {
        channel: here,
        next: 0,
    };
    let mut at = 0;
    let said = vec![says.message(1, "one", None)];
    write(store, PARTITION, &mut at, said).await?;
    let most = u64::from(limits::EDITS_PER_MESSAGE);
    let edits: Vec<_> = (1..=most + 3)
        .map(|n| says.edit(1, 1, &format!("text {n}"), false))
        .collect();
    let mut without_effect = 0;
    for edits in edits.chunks(41) {
        let written = write(store, PARTITION, &mut at, edits.to_vec()).await?;
        without_effect += written.without_effect;
    }
    assert_eq!(without_effect, 3);
    let rows = bodies(store, here).await?;
    let expected = (&*format!("text {most}"), Some(most + 1), false);
    assert_eq!(shown(&rows[0].1), expected);
    let refused = rows.iter().filter(|(seq, _)| *seq > most + 1);
    let texts: Vec<&str> = refused.map(|(_, body)| shown(body).0).collect();
    assert_eq!(texts, ["", "", ""], "nobody is to apply them");
    // The newest of them, oldest first.
    let shown_versions = store.versions(here, &[Seq(1)]).await?;
    let seqs = shown_versions.iter().map(|(_, version)| version.seq.0);
    let few = u64::from(limits::VERSIONS_PER_MESSAGE);
    assert!(seqs.eq(most + 1 - few..=most));
    let target = store.target(here, Seq(1)).await?.message;
    let target = target.expect("a message");
    assert_eq!(target.edits, limits::EDITS_PER_MESSAGE);

    let gone = vec![says.delete(1, 1)];
    let written = write(store, PARTITION, &mut at, gone).await?;
    assert_eq!(written.without_effect, 0, "a deletion counts all the same");
    let rows = bodies(store, here).await?;
    assert!(rows.iter().all(|(_, body)| shown(body).0.is_empty()));
    assert_eq!(store.versions(here, &[Seq(1)]).await?, []);
    assert_audit(store).await
}

#[tokio::test]
async fn page_of_versions_is_bounded_and_the_newest_messages_have_theirs() -> anyhow::Result<()> {
    let world = World::new("page_of_versions").await?;
    let (store, here) = (&world.store, channels_of(PARTITION, 1)[0]);
    let mut says = Says {
        channel: here,
        next: 0,
    };
    let mut at = 0;
    let each = u64::from(limits::VERSIONS_PER_MESSAGE);
    let most = u64::from(limits::VERSIONS_PER_PAGE);
    let messages = most / each + 2;
    let said = (0..messages).map(|_| says.message(1, "one", None));
    write(store, PARTITION, &mut at, said.collect()).await?;
    for target in 1..=messages {
        let edits = (0..each).map(|_| says.edit(1, target, "other", false));
        write(store, PARTITION, &mut at, edits.collect()).await?;
    }
    let targets: Vec<Seq> = (1..=messages).map(Seq).collect();
    let versions = store.versions(here, &targets).await?;
    assert_eq!(versions.len() as u64, most);
    let keys: Vec<_> = versions.iter().map(|(of, v)| (*of, v.seq)).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys[0].0, Seq(3), "the first two have none");
    Ok(())
}

/// The same random log in two partitions, in one batch and in many: the rows are the same.
#[tokio::test]
async fn rows_do_not_depend_on_where_batches_are_cut() -> anyhow::Result<()> {
    let world = World::new("rows_do_not_depend").await?;
    let store = &world.store;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let channels = [channels_of(0, 1)[0], channels_of(1, 1)[0]];
    let mut at = [0; 2];
    for _ in 0..6 {
        let count = rng.random_range(1..60_usize);
        let first = at[0];
        let log: Vec<_> = (0..count)
            .map(|n| random(&mut rng, first + 1 + n as u64))
            .collect();
        let whole = log.iter().map(|record| record(channels[0])).collect();
        write(store, 0, &mut at[0], whole).await?;
        let mut rest = &log[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rng.random_range(1..=rest.len().min(5)));
            let piece = piece.iter().map(|record| record(channels[1])).collect();
            write(store, 1, &mut at[1], piece).await?;
            rest = more;
        }
    }
    let one = bodies(store, channels[0]).await?;
    let other = bodies(store, channels[1]).await?;
    let text = |rows: &[(u64, Body)], channel: ChannelId| {
        let rows = rows.iter();
        rows.map(|(seq, body)| {
            format!("{seq} {}", body.encode().replace(&channel.to_string(), "C"))
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(text(&one, channels[0]), text(&other, channels[1]));
    let targets: Vec<Seq> = (1..=at[0]).map(Seq).collect();
    assert_eq!(
        store.versions(channels[0], &targets).await?,
        store.versions(channels[1], &targets).await?
    );
    let edited = one.iter().filter(|(_, body)| shown(body).1.is_some());
    assert!(edited.count() > 0, "the log is a good one");
    assert_audit(store).await
}

/// A record for a log at `seq`, of any kind; of whichever channel.
fn random(rng: &mut StdRng, seq: u64) -> impl Fn(ChannelId) -> Record + use<> {
    let who: UserId = user(rng.random_range(1..4));
    // A copy of an earlier record now and then.
    let id = id(if rng.random_range(0..12) == 0 {
        seq / 2
    } else {
        seq
    });
    let target = Seq(rng.random_range(1..=seq));
    let (kind, admin) = (rng.random_range(0..10), rng.random_range(0..4) == 0);
    move |channel| {
        let text = format!("text {seq}");
        let up = || "+1".to_owned();
        match kind {
            0..3 => Record::message(channel, who, id, text),
            3 | 4 => Record::reply(channel, who, id, text, Some(target)),
            5 | 6 => Record::edit(channel, who, id, target, text, admin),
            7 => Record::reaction(channel, who, id, target, up(), ReactionChange::Added),
            8 => Record::reaction(channel, who, id, target, up(), ReactionChange::Removed),
            _ => Record::delete(channel, who, id, target, admin),
        }
    }
}

/// A page of history among a great many reactions reads what it shows; the planner must see that
/// the small index has it.
#[tokio::test]
async fn page_among_many_reactions_costs_what_it_shows() -> anyhow::Result<()> {
    let world = World::new("page_among_many").await?;
    let (store, here) = (&world.store, channels_of(PARTITION, 1)[0]);
    let (mut says, mut at) = (
        Says {
            channel: here,
            next: 0,
        },
        0,
    );
    let said = (0..20)
        .map(|n| says.message(1, &n.to_string(), None))
        .collect();
    write(store, PARTITION, &mut at, said).await?;
    let mut shard = PgConnection::connect(&world.env.shard_urls[store.shard_of(here)]).await?;
    sqlx::query(
        "insert into messages (channel_id, seq, kind, sender_id, client_msg_id, ts_ms, body)
         select $1, 100 + n, 5, 1, gen_random_uuid(), 0, '{}' from generate_series(1, 50000) n",
    )
    .bind(here.shard_key())
    .execute(&mut shard)
    .await?;
    sqlx::query("analyze messages").execute(&mut shard).await?;
    let statement = crate::offline_data::query(
        "and seq < $2 and kind <= 2\n                       order by seq desc limit $3\n",
    )?;
    let plan: Vec<String> = {
        let explain = format!("explain (analyze, buffers) {statement}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
            .bind(here.shard_key())
            .bind(i64::MAX)
            .bind(21_i64)
            .fetch_all(&mut shard)
            .await?
    };
    let plan = plan.join("\n");
    assert!(
        plan.contains("kind <= 2") || plan.contains("_channel_id_seq_idx"),
        "{plan}"
    );
    assert!(!plan.contains("Rows Removed by Filter"), "{plan}");
    let page = store.page(here, Window::Newest, 20).await?;
    assert_eq!((page.rows.len(), page.has_more), (20, false));
    Ok(())
}
