use hubbub_stack::TestEnv;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn env_is_fresh_and_its_redis_can_be_killed_and_started() {
    let env = TestEnv::new("fresh").await.unwrap();
    let first = env.redis().pid().unwrap();
    env.redis().kill().await;
    assert!(!env.redis().is_running());
    assert!(!env.redis().is_ready().await);
    env.redis().start().await.unwrap();
    assert!(env.redis().is_ready().await);
    assert_ne!(env.redis().pid().unwrap(), first);
}

#[tokio::test]
async fn two_envs_share_nothing_but_the_servers() {
    let (a, b) = tokio::try_join!(TestEnv::new("two"), TestEnv::new("two")).unwrap();
    assert_eq!(a.kafka_brokers, b.kafka_brokers);
    assert_ne!(a.redis_url, b.redis_url);
    assert_ne!(a.topic, b.topic);
    assert_ne!(a.group, b.group);
    assert_ne!(a.core_url, b.core_url);
    assert_eq!(a.shard_urls.len(), 2);
}

#[tokio::test]
async fn paused_redis_holds_its_port_and_answers_after_resume() {
    let env = TestEnv::new("paused").await.unwrap();
    env.redis().pause();
    assert!(env.redis().is_running());
    let addr = env.redis_url.trim_start_matches("redis://").to_owned();
    let mut stream = TcpStream::connect(&addr).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    let silent = stream.read_exact(&mut answer);
    let silent = tokio::time::timeout(Duration::from_millis(200), silent).await;
    assert!(silent.is_err(), "a stopped process answered");
    env.redis().resume();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

/// A fault kills, a supervisor starts, a third restarts: in the end it runs and answers.
#[tokio::test]
async fn server_survives_kills_that_race_with_its_supervisor() {
    let env = TestEnv::new("supervised").await.unwrap();
    let redis = env.redis();
    let supervisor = async {
        loop {
            redis.exited().await;
            // It may have been killed again before it was ready.
            redis.start().await.ok();
        }
    };
    let faults = async {
        for round in 0..10 {
            if round % 3 == 2 {
                redis.restart().await.ok();
            } else {
                let before = redis.pid();
                redis.kill().await;
                assert_ne!(redis.pid(), before.or(Some(0)));
            }
            while !redis.is_ready().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::select! {
        () = supervisor => {}
        done = tokio::time::timeout(Duration::from_secs(20), faults) => done.unwrap(),
    }
    assert!(redis.is_ready().await);
    let count = redis.command(&["CLIENT", "LIST"]).await.unwrap();
    assert!(!count.is_empty());
}
