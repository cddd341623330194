use std::time::Duration;

use hubbub_protocol::{
    Seq,
    http::{ChannelKind, MessagePage},
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::{Caller, World, error, eventually};

async fn page(world: &World, path: &str, caller: &Caller) -> anyhow::Result<MessagePage> {
    let (status, body) = world.get(path, caller).await?;
    assert_eq!(status, 200, "{path}: {body}");
    Ok(serde_json::from_value(body)?)
}

fn seqs(page: &MessagePage) -> Vec<Seq> {
    page.messages.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn pages_of_any_size_agree_in_both_directions() -> anyhow::Result<()> {
    let world = World::new("pages").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let empty = page(&world, &messages, &mary).await?;
    assert_eq!(
        (empty.head, empty.has_more, empty.messages.len()),
        (Seq(0), false, 0)
    );

    let stored = world.store_messages(channel.id, &mary, 230).await?;
    let head = *stored.last().expect("230");
    let whole = world.store.range(channel.id, Seq(0), head, 1_000).await?;
    assert_eq!(whole.len(), 230);
    for size in [1, 7, 100] {
        let (mut forward, mut after) = (Vec::new(), Seq(0));
        loop {
            let path = format!("{messages}?after={after}&limit={size}");
            let page = page(&world, &path, &mary).await?;
            assert_eq!(page.head, head);
            assert!(page.messages.len() <= size);
            after = page.messages.last().map_or(after, |entry| entry.seq);
            forward.extend(page.messages);
            if !page.has_more {
                break;
            }
        }
        let (mut backward, mut before) = (Vec::new(), Seq::MAX);
        loop {
            let path = format!("{messages}?before={before}&limit={size}");
            let mut page = page(&world, &path, &mary).await?;
            before = page.messages.first().map_or(before, |entry| entry.seq);
            page.messages.append(&mut backward);
            backward = page.messages;
            if !page.has_more {
                break;
            }
        }
        assert_eq!(forward, backward, "pages of {size}");
        let bodies: Vec<_> = forward.iter().map(|e| (e.seq, e.body.encode())).collect();
        let expected: Vec<_> = whole.iter().map(|r| (r.seq, r.body.clone())).collect();
        assert_eq!(bodies, expected, "pages of {size}");
    }
    let newest = page(&world, &messages, &mary).await?;
    assert_eq!(seqs(&newest), stored[180..]);
    assert!(newest.has_more);
    let middle = stored[100];
    let around = page(
        &world,
        &format!("{messages}?around={middle}&limit=9"),
        &mary,
    )
    .await?;
    assert_eq!(around.messages.len(), 9);
    assert!(seqs(&around).contains(&middle));
    assert!(seqs(&around).first() < Some(&middle) && seqs(&around).last() > Some(&middle));
    Ok(())
}

#[tokio::test]
async fn at_least_waits_for_the_head_and_no_longer_than_two_seconds() -> anyhow::Result<()> {
    let world = World::new("at_least").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let stored = world.store_messages(channel.id, &mary, 2).await?;

    let begun = Instant::now();
    let path = format!("{messages}?at_least={}", stored[1]);
    assert_eq!(seqs(&page(&world, &path, &mary).await?), stored);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it is there already"
    );

    // Twenty wait on one channel; one write satisfies all of them. Where the first of them has waited
    // its two seconds before the write was done, twenty others wait for the next one.
    let in_time = Duration::from_millis(1_900);
    let (mut head, mut tries) = (stored[1], 0);
    loop {
        let next = format!("{messages}?at_least={}", head.0 + 2);
        let readers = (0..20).map(|_| page(&world, &next, &mary));
        let all_wait = eventually("twenty wait", || async {
            let metrics = reqwest::get(format!("{}/metrics", world.ops)).await.ok()?;
            let metrics = metrics.text().await.ok()?;
            metrics
                .lines()
                .find(|line| *line == "hubbub_api_waiters 20")
                .map(drop)
        });
        let write = async {
            timeout(in_time, all_wait).await.ok();
            world.store_messages(channel.id, &mary, 2).await
        };
        let begun = Instant::now();
        let (pages, written) = tokio::join!(futures_util::future::join_all(readers), write);
        let (written, took) = (written?, begun.elapsed());
        head = written[1];
        if took < in_time {
            for page in pages {
                let page = page?;
                assert_eq!(page.head, head);
                assert!(seqs(&page).ends_with(&written));
            }
            break;
        }
        tries += 1;
        assert!(tries < 5, "{took:?}");
    }

    let begun = Instant::now();
    let far = page(&world, &format!("{messages}?at_least={}", Seq::MAX), &mary).await?;
    assert_eq!(far.head, head, "the head tells that it is not there");
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    Ok(())
}

#[tokio::test]
async fn hostile_parameters_get_the_documented_error() -> anyhow::Result<()> {
    let world = World::new("hostile").await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(ChannelKind::Private, &mary, &[]).await?;
    let stored = world.store_messages(channel.id, &mary, 2).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    let hostile = [
        "-1",
        "abc",
        "",
        "1.5",
        "1e9",
        "9007199254740992",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999",
        "%00",
        "%27%3B%20drop%20table%20messages%3B--",
        "C000000005",
        "0x1F",
        "%F0%9F%98%80",
    ];
    for field in ["before", "after", "around", "at_least", "limit"] {
        for value in hostile {
            let (status, body) = world
                .get(&format!("{messages}?{field}={value}"), &mary)
                .await?;
            assert_eq!(status, 400, "{field}={value}: {body}");
            let error = error(&body);
            assert_eq!(error.field.as_deref(), Some(field), "{value}");
            assert!(error.limit.is_some(), "{field}={value}");
        }
    }
    for path in ["/channels", &format!("/channels/{}/members", channel.id)] {
        for query in [
            "limit=0",
            "limit=201",
            "cursor=-1",
            "cursor=x",
            "cursor=9223372036854775808",
        ] {
            let (status, body) = world.get(&format!("{path}?{query}"), &mary).await?;
            assert_eq!(status, 400, "{path}?{query}: {body}");
        }
    }
    for id in [
        "0",
        "C",
        "C1",
        "c000000005",
        "C0000000005",
        "CZZZZZZZZZZZZZ",
        "%00",
        "U000000001",
    ] {
        for rest in ["", "/messages", "/members"] {
            let (status, body) = world.get(&format!("/channels/{id}{rest}"), &mary).await?;
            assert_eq!(status, 400, "{id}{rest}: {body}");
            assert_eq!(error(&body).field.as_deref(), Some("channel"));
        }
    }
    let (status, body) = world
        .get("/channels/C1Y2P0IJ32E8E7/messages", &mary)
        .await?;
    assert_eq!(status, 404, "the greatest id there is: {body}");
    for id in ["U", "me2", "C000000005", "U00000000a"] {
        let (status, body) = world.get(&format!("/users/{id}"), &mary).await?;
        assert_eq!(
            (status, error(&body).field.as_deref()),
            (400, Some("user")),
            "{id}"
        );
    }
    let (status, body) = world.get("/users/U1Y2P0IJ32E8E7", &mary).await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &Value::from("user_not_found"))
    );
    for name in ["%00", "", &"x".repeat(81)] {
        let (status, _) = world.get(&format!("/channels?name={name}"), &mary).await?;
        assert_eq!(status, 400, "{name}");
    }
    let (status, body) = world.get("/channels?name=%25&mood=good", &mary).await?;
    assert_eq!(
        (status, &body["items"]),
        (200, &Value::from(Vec::<Value>::new()))
    );
    // The extremes that are seqs are ordinary questions.
    for (query, expected) in [
        ("before=0", &stored[..0]),
        ("after=0", &stored[..]),
        ("after=9007199254740991", &stored[..0]),
        ("before=9007199254740991", &stored[..]),
        ("around=0", &stored[..]),
        ("around=9007199254740991", &stored[..]),
        ("at_least=0", &stored[..]),
    ] {
        let page = page(&world, &format!("{messages}?{query}"), &mary).await?;
        assert_eq!(seqs(&page), expected, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn history_is_limited_per_user() -> anyhow::Result<()> {
    let flags = ["--history-rate=0.01", "--history-burst=5"];
    let world = World::with("history_rate", &flags).await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let channel = world.channel(ChannelKind::Private, &mary, &[&john]).await?;
    let messages = format!("/channels/{}/messages", channel.id);
    for _ in 0..5 {
        page(&world, &messages, &mary).await?;
    }
    let refused = world
        .request(reqwest::Method::GET, &messages, Some(&mary))
        .send()
        .await?;
    assert_eq!(refused.status(), 429);
    let header: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
    let body = error(&refused.json().await?);
    let delay = body.retry_after_ms.expect("a delay");
    assert!(
        delay > 0 && header == delay.div_ceil(1_000),
        "{header} {delay}"
    );
    page(&world, &messages, &john).await?;
    assert_eq!(world.get("/users/me", &mary).await?.0, 200);
    Ok(())
}
