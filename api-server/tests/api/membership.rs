use std::{sync::Arc, time::Duration};

use hubbub_bus::{Event, Inbox, Leases, Publisher, Subscriber};
use hubbub_protocol::{
    Answer, BusChannel, Change, ChannelId, ListeningSocket, PodId, PodMessage, Question, Record,
    Seq, UserId, UserPresence, http::ChannelKind,
};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{OnBus, World};

/// A pod as questions see it: it has a lease, and answers, or not.
pub(crate) struct Pod {
    evicted: Arc<Mutex<Vec<(ChannelId, UserId)>>>,
    pub(crate) here: Arc<Mutex<Here>>,
    pub(crate) answers: Arc<Mutex<bool>>,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

/// What a pod says of the people on it.
#[derive(Default)]
pub(crate) struct Here {
    pub(crate) sockets: Vec<ListeningSocket>,
    pub(crate) states: Vec<UserPresence>,
}

impl Pod {
    pub(crate) async fn start(world: &World, name: &str) -> anyhow::Result<Self> {
        let me: PodId = name.parse()?;
        let OnBus {
            publisher,
            subscriber,
            inbox,
            stop,
            mut tasks,
        } = OnBus::start(world, me.clone(), vec![BusChannel::Pods]).await?;
        let leases = Leases::new(&publisher);
        leases.renew(&me).await?;
        let renewed = me.clone();
        tasks.spawn(async move {
            loop {
                leases.renew(&renewed).await.expect("renews");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (evicted, answers) = (Arc::default(), Arc::new(Mutex::new(true)));
        let here = Arc::default();
        tasks.spawn(serve(
            me,
            inbox,
            publisher,
            Arc::clone(&evicted),
            Arc::clone(&here),
            Arc::clone(&answers),
            subscriber,
        ));
        Ok(Self {
            evicted,
            here,
            answers,
            stop,
            _tasks: tasks,
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    me: PodId,
    mut inbox: Inbox,
    publisher: Publisher,
    evicted: Arc<Mutex<Vec<(ChannelId, UserId)>>>,
    here: Arc<Mutex<Here>>,
    answers: Arc<Mutex<bool>>,
    _subscriber: Subscriber,
) {
    let mut events = Vec::new();
    loop {
        inbox.recv_all(&mut events).await;
        for event in events.drain(..) {
            let Event::Message { payload, .. } = event else {
                continue;
            };
            let Ok(PodMessage::Ask {
                request,
                reply_to,
                question,
            }) = serde_json::from_slice(&payload)
            else {
                continue;
            };
            if !*answers.lock() {
                continue;
            }
            let answer = match question {
                Question::Evict { channel, user } => {
                    evicted.lock().push((channel, user));
                    Answer::Evicted { sockets: 0 }
                }
                Question::Who { .. } => Answer::Who {
                    sockets: here.lock().sockets.clone(),
                    truncated: false,
                },
                Question::Presence { .. } => Answer::Presence {
                    states: here.lock().states.clone(),
                },
            };
            let reply = PodMessage::Reply {
                request,
                pod: me.clone(),
                answer,
            };
            publisher
                .offer(&BusChannel::Pod(reply_to), reply.encode().into())
                .expect("room");
        }
    }
}

/// The membership records in the log.
async fn changes(world: &World) -> anyhow::Result<Vec<(Seq, Change, UserId, UserId)>> {
    let records = hubbub_log::read_all(&world.log).await?;
    let mut changes: Vec<_> = records
        .into_iter()
        .filter_map(|(_, logged)| match Record::decode(&logged.payload?) {
            Ok(Record::Membership {
                user,
                change,
                member,
                ..
            }) => Some((logged.seq, change, user, member)),
            _ => None,
        })
        .collect();
    changes.sort_by_key(|(seq, ..)| *seq);
    Ok(changes)
}

#[tokio::test]
async fn changes_are_recorded_and_repeatable() -> anyhow::Result<()> {
    let world = World::new("changes").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let new = json!({ "name": "Maths", "kind": "private" });
    let (status, channel) = world
        .send(Method::POST, "/channels", Some(&mary), Some(&new))
        .await?;
    assert_eq!(
        (status, &channel["role"]),
        (201, &json!("admin")),
        "{channel}"
    );
    let taken = world
        .send(Method::POST, "/channels", Some(&john), Some(&new))
        .await?;
    assert_eq!(
        (taken.0, &taken.1["error"]["code"]),
        (409, &json!("name_taken"))
    );

    let id = channel["id"].as_str().expect("an id");
    let at = format!("/channels/{id}/members/{}", john.id());
    let (_, added) = world.send(Method::PUT, &at, Some(&mary), None).await?;
    let joined = Seq(added["seq"].as_u64().expect("a seq"));
    assert_eq!(added["changed"], true);
    let again = world.send(Method::PUT, &at, Some(&mary), None).await?;
    assert_eq!(again, (200, json!({ "changed": false, "seq": null })));

    let (_, members) = world.get(&format!("/channels/{id}/members"), &john).await?;
    let members = members["items"].as_array().expect("items");
    let seqs: Vec<_> = members.iter().map(|m| m["added_seq"].as_u64()).collect();
    assert_eq!(seqs, [Some(0), Some(joined.0)]);

    let (status, removed) = world.send(Method::DELETE, &at, Some(&mary), None).await?;
    assert_eq!(
        (status, &removed["changed"]),
        (200, &json!(true)),
        "no pod has to confirm"
    );
    let left = Seq(removed["seq"].as_u64().expect("a seq"));
    let again = world.send(Method::DELETE, &at, Some(&mary), None).await?;
    assert_eq!(again, (200, json!({ "changed": false, "seq": null })));
    let (status, _) = world
        .get(&format!("/channels/{id}/messages"), &john)
        .await?;
    assert_eq!(status, 404, "a membership that was seen is no permission");

    let recorded = changes(&world).await?;
    let expected = [
        (joined, Change::Joined, mary.id(), john.id()),
        (left, Change::Left, mary.id(), john.id()),
    ];
    assert_eq!(recorded, expected);
    Ok(())
}

#[tokio::test]
async fn removal_is_answered_once_every_pod_has_confirmed() -> anyhow::Result<()> {
    let world = World::new("removal").await?;
    let (mary, john) = (world.caller("mary").await?, world.caller("john").await?);
    let (willing, silent) = tokio::try_join!(
        Pod::start(&world, "pod-willing"),
        Pod::start(&world, "pod-silent")
    )?;
    *silent.answers.lock() = false;
    let channel = world.channel(ChannelKind::Private, &mary, &[&john]).await?;
    let at = format!("/channels/{}/members/{}", channel.id, john.id());
    let (status, body) = world.send(Method::DELETE, &at, Some(&mary), None).await?;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("bus_unavailable")),
        "{body}"
    );
    assert_eq!(body["error"]["retryable"], true);
    assert!(!willing.evicted.lock().is_empty());
    assert_eq!(world.store.membership(channel.id, john.id()).await?, None);

    // The repeat asks again although the row is gone, and so does the one who left himself.
    *silent.answers.lock() = true;
    let (status, body) = world.send(Method::DELETE, &at, Some(&mary), None).await?;
    assert_eq!((status, &body["changed"]), (200, &json!(false)), "{body}");
    assert!(silent.evicted.lock().contains(&(channel.id, john.id())));
    silent.evicted.lock().clear();
    let me = format!("/channels/{}/members/me", channel.id);
    let (status, _) = world.send(Method::DELETE, &me, Some(&john), None).await?;
    assert_eq!(status, 404);
    assert!(silent.evicted.lock().contains(&(channel.id, john.id())));
    Ok(())
}

#[tokio::test]
async fn lists_are_paged() -> anyhow::Result<()> {
    let world = World::new("lists").await?;
    let mary = world.caller("mary").await?;
    let mut members = Vec::new();
    for n in 0..23 {
        members.push(world.caller(&format!("member {n}")).await?);
    }
    let all: Vec<_> = members.iter().collect();
    let big = world.channel(ChannelKind::Private, &mary, &all).await?;
    let mut expected = vec![big.id.to_string()];
    for _ in 0..16 {
        let channel = world.channel(ChannelKind::Public, &mary, &[]).await?;
        expected.push(channel.id.to_string());
    }
    let collect = async |path: &str, size: usize| -> anyhow::Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = world
                .get(&format!("{path}?limit={size}{cursor}"), &mary)
                .await?;
            assert_eq!(status, 200, "{page}");
            let rows = page["items"].as_array().expect("items").clone();
            assert!(rows.len() <= size);
            items.extend(rows);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    };
    let path = format!("/channels/{}/members", big.id);
    for size in [1, 7, 100] {
        let channels = collect("/channels", size).await?;
        let ids: Vec<_> = channels.iter().filter_map(|c| c["id"].as_str()).collect();
        assert_eq!(ids, expected, "pages of {size}");
        assert_eq!(collect(&path, size).await?.len(), 24, "pages of {size}");
    }
    let name = big.name.expect("a name");
    let (_, found) = world.get(&format!("/channels?name={name}"), &mary).await?;
    assert_eq!(found["items"][0]["id"], json!(big.id));
    let (status, shown) = world
        .get(&format!("/users/{}", members[0].id()), &mary)
        .await?;
    assert_eq!((status, &shown["name"]), (200, &json!("member 0")));
    Ok(())
}
