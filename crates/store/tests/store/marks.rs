//! Cursors of devices, and what is unread above them.

use std::collections::HashMap;

use hubbub_protocol::{
    ChannelId, ChannelLetter, Receipt, Seq,
    http::{ChannelKind, DeviceReceipt, Role, UnreadChannel},
    limits, partition_of,
};
use hubbub_store::Activity;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{PARTITIONS, World, append, channels_of, dead, key, message, user};

fn mark(channel: ChannelId, who: i64, device: &str, delivered: u64, read: u64) -> Receipt {
    Receipt {
        channel,
        user: user(who),
        device: device.parse().expect("a device"),
        delivered: Seq(delivered),
        read: Seq(read),
    }
}

#[tokio::test]
async fn cursors_only_move_on_and_say_so_once() -> anyhow::Result<()> {
    let world = World::new("cursors_only_move_on").await?;
    let store = &world.store;
    let [a, b] = channels_of(3, 2)[..] else {
        unreachable!("two were asked for")
    };
    let direct = ChannelId::new(ChannelLetter::Direct, a.number()).expect("from 1");
    assert_eq!(store.marks_positions(&[3]).await?, [(3, 0)]);
    let first = [
        mark(a, 1, "phone", 5, 2),
        mark(a, 1, "laptop", 5, 5),
        mark(b, 1, "phone", 9, 0),
        mark(a, 1, "phone", 6, 1),
    ];
    let moved = store.write_marks(3, 4, &first).await?;
    let expected = [
        mark(a, 1, "laptop", 5, 5),
        mark(a, 1, "phone", 6, 2),
        mark(b, 1, "phone", 9, 0),
    ];
    assert_eq!(moved, expected);
    assert_eq!(store.marks_positions(&[3, 4]).await?, [(3, 4), (4, 0)]);
    // The same again, from an earlier position: nothing moves, and nothing goes back.
    assert_eq!(store.write_marks(3, 2, &first[..2]).await?, []);
    assert_eq!(store.marks_positions(&[3]).await?, [(3, 2)]);
    let later = [mark(a, 1, "phone", 3, 4), mark(a, 1, "laptop", 1, 1)];
    let moved = store.write_marks(3, 6, &later).await?;
    assert_eq!(moved, [mark(a, 1, "phone", 6, 4)]);
    // A position alone, after a batch of marks that could not be read.
    assert_eq!(store.write_marks(3, 9, &[]).await?, []);
    assert_eq!(store.marks_positions(&[3]).await?, [(3, 9)]);

    let receipts = store.receipts(a, &[user(1), user(2)]).await?;
    let receipt = |device: &str, delivered, read| DeviceReceipt {
        user: user(1),
        device: device.parse().expect("a device"),
        delivered: Seq(delivered),
        read: Seq(read),
    };
    assert_eq!(receipts, [receipt("laptop", 5, 5), receipt("phone", 6, 4)]);
    assert_eq!(store.receipts(a, &[user(2)]).await?, []);
    // The direct channel of the same number is another one.
    assert_eq!(store.receipts(direct, &[user(1)]).await?, []);
    Ok(())
}

#[tokio::test]
async fn devices_of_a_member_are_bounded_and_a_new_one_always_counts() -> anyhow::Result<()> {
    let world = World::new("devices_of_a_member").await?;
    let store = &world.store;
    let here = channels_of(3, 1)[0];
    let most = u64::from(limits::DEVICES_PER_MEMBER);
    let mut at = 0;
    let mut write = async |marks: Vec<Receipt>| {
        at += 1;
        anyhow::Ok(store.write_marks(3, at, &marks).await?)
    };
    let devices = async |who| {
        let receipts = store.receipts(here, &[user(who)]).await?;
        let device = |receipt: DeviceReceipt| (receipt.device.to_string(), receipt.read.0);
        anyhow::Ok(receipts.into_iter().map(device).collect::<Vec<_>>())
    };
    let device = |n: u64| format!("d{n:03}");
    // 1 came furthest, then 2 and so on.
    let full = (1..=most).map(|n| mark(here, 1, &device(n), 900, 500 - n));
    assert_eq!(write(full.collect()).await?.len() as u64, most);
    let others = write(vec![mark(here, 2, "phone", 1, 1)]).await?;
    assert_eq!(others.len(), 1);

    // One after another, though they are behind everybody: the last place is theirs in turn.
    for n in 1..=40 {
        let new = mark(here, 1, &format!("new{n:02}"), 3, 0);
        assert_eq!(write(vec![new.clone()]).await?, [new]);
        let found = devices(1).await?;
        assert_eq!(found.len() as u64, most);
        assert!(found.contains(&(format!("new{n:02}"), 0)));
        assert!(found.contains(&(device(most - 1), 500 - (most - 1))));
        // One that is known moves as ever, and never goes by that.
        let known = mark(here, 1, &device(2), 900 + n, 498);
        assert_eq!(write(vec![known.clone()]).await?, [known]);
    }

    // More than there is room for, in one batch with one that is known: it stays, and so does
    // what came furthest.
    let mut flood: Vec<_> = (0..100)
        .map(|n| mark(here, 1, &format!("flood{n:03}"), 2, 0))
        .collect();
    flood.push(mark(here, 1, &device(9), 900, 499));
    let moved = write(flood).await?;
    let found = devices(1).await?;
    assert_eq!(found.len() as u64, most);
    assert!(found.contains(&(device(1), 499)) && found.contains(&(device(9), 499)));
    assert_eq!(
        moved.len() as u64,
        most - 1,
        "those that are there, but for the furthest"
    );
    let reached = found.iter().filter(|(name, _)| name.starts_with("flood"));
    assert_eq!(reached.count() as u64, most - 2);
    assert_eq!(devices(2).await?, [("phone".to_owned(), 1)]);
    Ok(())
}

/// Marks in any order, some twice, by two writers at once: each cursor ends at its greatest.
#[tokio::test]
async fn marks_in_any_order_and_more_than_once_end_alike() -> anyhow::Result<()> {
    let world = World::new("marks_in_any_order").await?;
    let store = &world.store;
    let here = channels_of(3, 1)[0];
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut expected: HashMap<(i64, String), Receipt> = HashMap::new();
    let marks: Vec<Receipt> = (0..400)
        .map(|_| {
            let (who, device) = (
                rng.random_range(1..4),
                format!("d{}", rng.random_range(0..3)),
            );
            let read = rng.random_range(0..500);
            let delivered = rng.random_range(read..600);
            let mark = mark(here, who, &device, delivered, read);
            expected
                .entry((who, device))
                .or_insert_with(|| mark.clone())
                .merge(mark.delivered, mark.read);
            mark
        })
        .collect();
    let twice = |from: usize| {
        let mut all = marks.clone();
        all.rotate_left(from);
        async move {
            for (at, batch) in (1_i64..).zip(all.chunks(17)) {
                store.write_marks(3, at * 17, batch).await?;
            }
            anyhow::Ok(())
        }
    };
    tokio::try_join!(twice(0), twice(123))?;
    let everybody = [user(1), user(2), user(3)];
    let found = store.receipts(here, &everybody).await?;
    let mut expected: Vec<_> = expected.into_values().collect();
    expected.sort_by_key(|mark| (mark.user, mark.device.clone()));
    let wanted: Vec<_> = expected
        .into_iter()
        .map(|mark| DeviceReceipt {
            user: mark.user,
            device: mark.device,
            delivered: mark.delivered,
            read: mark.read,
        })
        .collect();
    assert_eq!(found, wanted);
    Ok(())
}

#[tokio::test]
async fn unread_is_what_lies_above_the_furthest_device() -> anyhow::Result<()> {
    let world = World::new("unread_is_what").await?;
    let store = &world.store;
    let mary = store.provision_user("mary", "Mary").await?.id;
    let john = store.provision_user("john", "John").await?.id;
    let made = store.create_channel("general", ChannelKind::Public, mary);
    let general = made.await?.id;
    let silent = store.create_channel("silent", ChannelKind::Public, john);
    let silent = silent.await?.id;
    store.add_member(silent, mary, Role::Member).await?;
    let direct = store.direct_channel(mary, john).await?.channel;
    store
        .create_channel("others", ChannelKind::Public, john)
        .await?;

    // Holes between the messages; copies and dead letters move the head and count as nothing.
    let partition = partition_of(general, PARTITIONS);
    let batch = [
        message(2, general, key(1, 1)),
        message(4, general, key(1, 2)),
        message(5, general, key(1, 3)),
        message(6, general, key(1, 3)),
        message(9, general, key(1, 4)),
        dead(10, Some(general)),
    ];
    append(store, partition, &batch).await?;
    let unread = async || {
        let unread = store.unread(mary).await?;
        assert_eq!(unread.missing, []);
        anyhow::Ok(unread.channels)
    };
    let row = |channel, read, unread, head, last_ts_ms| UnreadChannel {
        channel,
        read: Seq(read),
        unread,
        head: Seq(head),
        last_ts_ms,
    };
    let nothing = [row(direct, 0, 0, 0, 0)];
    let expect = |read, count| {
        let mut all = nothing.to_vec();
        all.push(row(general, read, count, 10, 5));
        all.push(row(silent, 0, 0, 0, 0));
        all
    };
    assert_eq!(unread().await?, expect(0, 4));
    // The seqs read, and what is unread then; devices that are behind change nothing.
    for (read, left) in [(1, 4), (2, 3), (4, 2), (7, 1), (8, 1), (9, 0), (10, 0)] {
        let marks = [mark(general, mary.number(), "phone", read, read)];
        store.write_marks(partition, 1, &marks).await?;
        assert_eq!(unread().await?, expect(read, left), "read {read}");
        let behind = [mark(general, mary.number(), "laptop", 1, 1)];
        store.write_marks(partition, 1, &behind).await?;
        assert_eq!(unread().await?, expect(read, left));
    }
    let activity = store.activity(&[silent, general]).await?;
    let of = |channel, head, last_ts_ms| Activity {
        channel,
        head: Seq(head),
        last_ts_ms,
    };
    assert_eq!(activity, [of(silent, 0, 0), of(general, 10, 5)]);
    assert_eq!(store.channels_of(mary).await?.len(), 3);
    Ok(())
}
