use hubbub_protocol::{ChannelId, Seq};
use hubbub_store::{Page, Store, Window};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{World, all_seqs, append, channels_of, dead, key, message};

/// A channel with holes, among others of its partition; its seqs.
async fn fill(world: &World, rng: &mut StdRng, channel: ChannelId) -> anyhow::Result<Vec<u64>> {
    let others = channels_of(0, 4);
    let mut seqs = Vec::new();
    let mut batch = Vec::new();
    for seq in 1..=700_u64 {
        if rng.random_range(0..3) == 0 {
            seqs.push(seq);
            batch.push(message(seq, channel, key(1, u128::from(seq))));
        } else {
            let other = others[1 + rng.random_range(0..3)];
            batch.push(message(seq, other, key(1, u128::from(seq))));
        }
    }
    // The head is above the last row.
    batch.push(dead(701, Some(channel)));
    append(&world.store, 0, &batch).await?;
    Ok(seqs)
}

fn seqs(page: &Page) -> Vec<u64> {
    page.rows.iter().map(|row| row.seq.0).collect()
}

async fn walk(
    store: &Store,
    channel: ChannelId,
    limit: usize,
    forward: bool,
) -> anyhow::Result<Vec<u64>> {
    let mut all = Vec::new();
    let mut window = if forward {
        Window::After(Seq::ZERO)
    } else {
        Window::Newest
    };
    loop {
        let page = store.page(channel, window, limit).await?;
        assert_eq!(page.head, Seq(701));
        assert!(page.rows.is_sorted_by_key(|row| row.seq));
        assert!(page.rows.len() == limit || !page.has_more);
        let seqs = seqs(&page);
        window = match (forward, seqs.first(), seqs.last()) {
            (true, _, Some(last)) => Window::After(Seq(*last)),
            (false, Some(first), _) => Window::Before(Seq(*first)),
            _ => window,
        };
        if forward {
            all.extend(seqs);
        } else {
            all.splice(0..0, seqs);
        }
        if !page.has_more {
            return Ok(all);
        }
    }
}

#[tokio::test]
async fn pages_forward_and_backward_are_the_whole() -> anyhow::Result<()> {
    let world = World::new("pages").await?;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let channel = channels_of(0, 1)[0];
    let expected = fill(&world, &mut rng, channel).await?;
    let store = &world.store;
    assert_eq!(all_seqs(store, channel).await?, expected);
    for limit in [1, 7, 100] {
        assert_eq!(walk(store, channel, limit, true).await?, expected);
        assert_eq!(walk(store, channel, limit, false).await?, expected);
    }
    for _ in 0..60 {
        let (at, limit) = (rng.random_range(0..720_u64), rng.random_range(1..40_usize));
        let page = store.page(channel, Window::Around(Seq(at)), limit).await?;
        let middle = expected.partition_point(|seq| *seq < at);
        let start = middle.saturating_sub(limit / 2);
        let end = (start + limit).min(expected.len());
        assert_eq!(seqs(&page), expected[start..end], "around {at}, {limit}");
        assert_eq!(page.has_more, start > 0 || end < expected.len());
    }
    Ok(())
}

#[tokio::test]
async fn range_and_rows_give_what_there_is() -> anyhow::Result<()> {
    let world = World::new("range_and_rows").await?;
    let store = &world.store;
    let mut rng = StdRng::seed_from_u64(7);
    let channel = channels_of(0, 1)[0];
    let expected = fill(&world, &mut rng, channel).await?;
    let (from, through) = (expected[3], expected[40]);
    let rows = store.range(channel, Seq(from), Seq(through), 1_000).await?;
    let got: Vec<u64> = rows.iter().map(|row| row.seq.0).collect();
    assert_eq!(got, expected[4..=40]);
    assert!(rows[0].body.contains(&format!("number {}", expected[4])));
    assert_eq!(rows[0].key, key(1, u128::from(expected[4])));
    let cut = store.range(channel, Seq(from), Seq(through), 5).await?;
    assert_eq!(cut[..], rows[..5]);
    let asked: Vec<Seq> = (1..=50).rev().map(Seq).collect();
    let rows = store.rows(channel, &asked).await?;
    let got: Vec<u64> = rows.iter().map(|row| row.seq.0).collect();
    let there: Vec<u64> = expected.iter().copied().filter(|seq| *seq <= 50).collect();
    assert_eq!(got, there);
    let empty = channels_of(2, 1)[0];
    let page = store.page(empty, Window::Newest, 10).await?;
    assert_eq!(
        (page.rows.len(), page.has_more, page.head),
        (0, false, Seq::ZERO)
    );
    let shard = store.shard_of(channel);
    let heads = store.heads(shard, &[empty, channel]).await?;
    assert_eq!(heads, [(empty, Seq::ZERO), (channel, Seq(701))]);
    Ok(())
}
