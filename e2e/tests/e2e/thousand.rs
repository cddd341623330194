//! 1,000 messages from 8 senders in 4 channels over 2 edges, 12 devices, 2 API servers.

use std::collections::BTreeSet;

use hubbub_client::{JoinOptions, Page};
use hubbub_e2e::{Device, World};
use hubbub_protocol::{Body, ChannelId, Seq, http::Entry};

const SENDERS: usize = 8;
const EACH: usize = 125;

#[tokio::test]
async fn every_device_ends_with_the_stores_set_in_seq_order() -> anyhow::Result<()> {
    let world = World::start("thousand", 2, 2).await?;
    let mut channels = vec![
        world.channel("general").await?,
        world.channel("Maths").await?,
    ];
    for name in ["physics", "music"] {
        channels.push(world.open_channel(name).await?);
    }
    let mut devices = Vec::new();
    for n in 0..12 {
        let device = world.device(World::USERS[n % World::USERS.len()]).await?;
        for channel in &channels {
            let options = JoinOptions {
                ordered: n % 2 == 0,
                ..JoinOptions::default()
            };
            device.join_with(*channel, options).await?;
        }
        devices.push((n % 2 == 0, device));
    }
    let mut senders = Vec::new();
    for name in World::USERS.into_iter().take(SENDERS) {
        senders.push((name, world.device(name).await?));
    }
    // Everybody writes in every channel, pipelined.
    let mut sends = Vec::new();
    for n in 0..EACH {
        for (at, (name, device)) in senders.iter().enumerate() {
            let channel = channels[(n + at) % channels.len()];
            sends.push(device.client.send(channel, format!("{name} {n}"))?);
        }
    }
    let mut acked = BTreeSet::new();
    for send in sends {
        acked.insert(send.message_id());
        send.wait().await?;
    }
    assert_eq!(acked.len(), SENDERS * EACH);

    world.wait_caught_up().await?;
    let mut total = 0;
    for channel in &channels {
        let stored = world.history(*channel).await?;
        total += stored
            .iter()
            .filter(|e| matches!(e.body, Body::Message { .. }))
            .count();
        let seqs: Vec<Seq> = stored.iter().map(|entry| entry.seq).collect();
        for (ordered, device) in &devices {
            check_device(device, *ordered, *channel, &seqs).await?;
        }
        pages_agree(&world, *channel, &stored).await?;
    }
    assert_eq!(total, acked.len(), "stored messages");
    for (_, device) in &devices {
        assert_eq!(device.doubled_on_the_wire(), None);
    }
    world.finish().await
}

/// Everything after the join point, exactly once, in order of seq.
async fn check_device(
    device: &Device,
    ordered: bool,
    channel: ChannelId,
    stored: &[Seq],
) -> anyhow::Result<()> {
    let joined_at = device.heard(|heard| {
        heard
            .joined
            .iter()
            .find(|reply| reply.channel == channel)
            .and_then(|reply| reply.head)
    });
    let stored: Vec<Seq> = stored
        .iter()
        .copied()
        .filter(|seq| Some(*seq) > joined_at)
        .collect();
    let head = stored.last().copied();
    device
        .wait("all records and synced", |heard| {
            heard.view.len(channel) >= stored.len() && heard.view.synced(channel) >= head
        })
        .await?;
    let (view, arrived) = device.heard(|heard| {
        let view: Vec<Seq> = heard.view.records(channel).map(|(seq, _)| seq).collect();
        let arrived: Vec<Seq> = heard
            .records
            .iter()
            .filter(|(c, ..)| *c == channel)
            .map(|(_, seq, _)| *seq)
            .collect();
        (view, arrived)
    });
    assert_eq!(view, stored, "the view of {channel}");
    assert_eq!(arrived.len(), stored.len(), "handed on once each");
    if ordered {
        assert!(arrived.is_sorted(), "an ordered join is strictly by seq");
    }
    Ok(())
}

/// Pages of 1, 7 and 100, forward and backward, on both API servers.
async fn pages_agree(world: &World, channel: ChannelId, stored: &[Entry]) -> anyhow::Result<()> {
    for limit in [1, 7, 100] {
        for api in 0..2 {
            let http = world.http_at("Victoria", api)?;
            let mut forward: Vec<Entry> = Vec::new();
            loop {
                let after = forward.last().map_or(Seq::ZERO, |entry| entry.seq);
                let page = Page {
                    after: Some(after),
                    limit: Some(limit),
                    ..Page::default()
                };
                let page = world.patient(|| http.messages(channel, page)).await?;
                forward.extend(page.messages);
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(forward, stored, "forward by {limit} on api {api}");

            let mut backward: Vec<Entry> = Vec::new();
            let end = Seq(stored.last().map_or(0, |entry| entry.seq.0) + 1);
            loop {
                let before = backward.first().map_or(end, |entry: &Entry| entry.seq);
                let page = Page {
                    before: Some(before),
                    limit: Some(limit),
                    ..Page::default()
                };
                let mut page = world.patient(|| http.messages(channel, page)).await?;
                let more = page.has_more;
                page.messages.extend(backward);
                backward = page.messages;
                if !more {
                    break;
                }
            }
            assert_eq!(backward, stored, "backward by {limit} on api {api}");
        }
    }
    Ok(())
}
