//! Questions to all pods.

use super::*;

fn evict() -> Question {
    let BusChannel::Channel(channel) = channel(1) else {
        unreachable!("made as one");
    };
    let user = UserId::new(1).expect("from 1");
    Question::Evict { channel, user }
}

/// A pod that has a lease and answers every question; with the number of questions it saw.
async fn answering(server: &Server, name: &str, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    let mut node = Node::start(&server.config(name));
    node.subscribed(&[BusChannel::Pods]).await;
    publish(&node.publisher, &channel(1), "connected").await;
    let pod = server.pod(name);
    Leases::new(&node.publisher).renew(&pod).await?;
    tasks.spawn(async move {
        let mut sockets = 0;
        loop {
            if let Event::Message { payload, .. } = next_forever(&mut node).await {
                let asked = serde_json::from_slice(&payload).expect("a pod message");
                let PodMessage::Ask {
                    request, reply_to, ..
                } = asked
                else {
                    continue;
                };
                sockets += 1;
                let reply = PodMessage::Reply {
                    request,
                    pod: pod.clone(),
                    answer: Answer::Evicted { sockets },
                };
                let to = BusChannel::Pod(reply_to);
                node.publisher
                    .offer(&to, reply.encode().into())
                    .expect("room");
            }
        }
    });
    Ok(())
}

/// Who asks; its inbox is read by a task.
async fn asking(config: &Config, tasks: &mut JoinSet<()>) -> (Asker, Leases, Registry) {
    let mut node = Node::start(config);
    node.subscribed(&[BusChannel::Pod(config.pod.clone())])
        .await;
    publish(&node.publisher, &channel(1), "connected").await;
    let leases = Leases::new(&node.publisher);
    let asker = Asker::new(node.publisher.clone(), leases.clone(), config.pod.clone());
    let listener = asker.clone();
    let registry = std::mem::take(&mut node.registry);
    tasks.spawn(async move {
        loop {
            if let Event::Message { payload, .. } = next_forever(&mut node).await {
                let reply = serde_json::from_slice(&payload).expect("a pod message");
                if let PodMessage::Reply {
                    request,
                    pod,
                    answer,
                } = reply
                {
                    listener.on_reply(request, pod, answer);
                }
            }
        }
    });
    (asker, leases, registry)
}

async fn next_forever(node: &mut Node) -> Event {
    loop {
        if let Some(event) = node.read.pop_front() {
            return event;
        }
        let mut events = Vec::new();
        node.inbox.recv_all(&mut events).await;
        node.read.extend(events);
    }
}

#[tokio::test]
async fn question_is_answered_by_all_pods_and_names_who_is_missing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    answering(&server, "b", &mut tasks).await?;
    let (asker, leases, _) = asking(&server.config("asker"), &mut tasks).await;
    let survey = asker.ask(evict(), LONG).await?;
    let pods: Vec<_> = survey.answers.keys().map(PodId::as_str).collect();
    assert_eq!((pods, survey.missing), (vec!["a", "b"], vec![]));

    let ghost = server.pod("ghost");
    leases.renew(&ghost).await?;
    let deadline = Duration::from_secs(2);
    let begun = Instant::now();
    let survey = asker.ask(evict(), deadline).await?;
    assert_eq!((survey.answers.len(), survey.missing), (2, vec![ghost]));
    assert!(begun.elapsed() >= deadline && begun.elapsed() < deadline * 2);
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn asking_until_all_stops_waiting_for_a_pod_whose_lease_is_gone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let (asker, leases, _) = asking(&server.config("asker"), &mut tasks).await;
    let mut client = server.client().await?;
    let mut set = redis::cmd("SET");
    set.arg("pod:ghost").arg(1).arg("PX").arg(900);
    let set_at = Instant::now();
    let _: () = set.query_async(&mut client).await?;
    let begun = Instant::now();
    let survey = asker.ask_until_all(evict(), LONG).await?;
    assert_eq!(survey.missing, []);
    assert!(set_at.elapsed() >= Duration::from_millis(900), "too early");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // It asked again, each quarter of a second at most, and the pod that had answered saw that.
    let Some(Answer::Evicted { sockets }) = survey.answers.get(&server.pod("a")) else {
        panic!("{survey:?}");
    };
    let most = 1 + took.as_millis() as u64 / 250;
    assert!((2..=most).contains(sockets), "{sockets} in {took:?}");

    let ghost = server.pod("ghost");
    leases.renew(&ghost).await?;
    let survey = asker
        .ask_until_all(evict(), Duration::from_millis(600))
        .await?;
    assert_eq!(survey.missing, [ghost]);
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn asking_until_all_survives_a_cut() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::start(server.addr())?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let mut config = server.config("asker");
    config.url = format!("redis://{}", proxy.addr());
    let (asker, _, _) = asking(&config, &mut tasks).await;
    proxy.go_down();
    let question = asker.clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { question.ask_until_all(evict(), LONG).await });
    eventually("the question is open", || asker.pending() == 1).await;
    eventually("nothing goes through", || proxy.connections() == 0).await;
    proxy.heal();
    let survey = asked.join_next().await.expect("one task")??;
    assert!(survey.answers.contains_key(&server.pod("a")), "{survey:?}");
    assert_eq!(survey.missing, []);

    proxy.go_down();
    let answer = asker
        .ask_until_all(evict(), Duration::from_millis(300))
        .await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(asker.pending(), 0);
    Ok(())
}

#[tokio::test]
async fn question_is_asked_even_if_nobody_has_a_lease() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    let (asker, _, _) = asking(&server.config("asker"), &mut tasks).await;
    let mut pod = Node::start(&server.config("a"));
    pod.subscribed(&[BusChannel::Pods]).await;
    let survey = asker.ask_until_all(evict(), LONG).await?;
    assert!(
        survey.answers.is_empty() && survey.missing.is_empty(),
        "{survey:?}"
    );
    assert!(matches!(
        pod.next().await,
        Event::Message {
            channel: BusChannel::Pods,
            ..
        }
    ));
    Ok(())
}

#[tokio::test]
async fn nothing_is_pending_after_many_questions_answered_late_or_dropped() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut tasks = JoinSet::new();
    answering(&server, "a", &mut tasks).await?;
    let (asker, leases, registry) = asking(&server.config("asker"), &mut tasks).await;
    let ghost = server.pod("ghost");
    leases.renew(&ghost).await?;
    let mut asked = JoinSet::new();
    for number in 0..200 {
        let (asker, ghost) = (asker.clone(), ghost.clone());
        asked.spawn(async move {
            let asking = asker.ask(evict(), Duration::from_millis(700));
            if number % 4 == 0 {
                // Dropped under way.
                timeout(Duration::from_millis(100), asking).await.ok();
                return false;
            }
            // So many at once may be too late for each other, in being asked or answered.
            let survey = match asking.await {
                Err(Error::Timeout) => return false,
                survey => survey.expect("asked"),
            };
            assert!(survey.missing.contains(&ghost), "{survey:?}");
            assert_eq!(survey.answers.len() + survey.missing.len(), 2);
            survey.answers.len() == 1
        });
    }
    let mut answered = 0;
    while let Some(ended) = asked.join_next().await {
        answered += usize::from(ended?);
    }
    assert!(answered > 0);
    assert_eq!(asker.pending(), 0);
    // Its answer comes behind those to what was dropped.
    leases.release(&ghost).await?;
    assert_eq!(asker.ask(evict(), LONG).await?.missing, []);
    let late = || -> anyhow::Result<u64> {
        let mut text = String::new();
        encode(&mut text, &registry)?;
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("bus_late_replies_total "));
        Ok(count.unwrap_or("0").parse()?)
    };
    let before = late()?;
    let answer = Answer::Evicted { sockets: 1 };
    asker.on_reply(uuid::Uuid::new_v4(), server.pod("a"), answer);
    assert_eq!(late()?, before + 1);
    Ok(())
}
