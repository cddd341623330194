use hubbub_stack::{Durability, Port, Postgres};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

async fn cluster() -> (Postgres, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let throw_away = Durability::ThrowAway;
    let cluster = Postgres::launch("pg", dir.path(), Port::free().unwrap(), throw_away).await;
    (cluster.unwrap(), dir)
}

#[tokio::test]
async fn sql_returns_rows_and_errors() {
    let (cluster, _dir) = cluster().await;
    let rows = "create table t (a int, b text); insert into t values (1, 'x'), (2, null);
                select * from t order by a";
    assert_eq!(cluster.sql("postgres", rows).await.unwrap(), "1|x\n2|");
    let error = cluster.sql("postgres", "select 1/0").await.unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
}

/// A session that was open when the cluster was paused gets no answer either: its backend is
/// another process than the one that listens.
#[tokio::test]
async fn paused_cluster_answers_nobody_and_resumes() {
    let (cluster, _dir) = cluster().await;
    let make = "create table ticks (at timestamptz)";
    cluster.sql("postgres", make).await.unwrap();
    let ticks = "do $$ begin for i in 1..1000 loop
                     insert into ticks values (clock_timestamp()); commit; perform pg_sleep(0.01);
                 end loop; end $$";
    let ticking = cluster.sql("postgres", ticks);
    let check = async {
        let count = || async {
            let count = cluster.sql("postgres", "select count(*) from ticks").await;
            count.map_or(0, |count| count.parse::<u32>().unwrap())
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while count().await < 5 {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(10)).await;
        }
        cluster.pause();
        let paused = Instant::now();
        assert!(!cluster.is_ready().await);
        sleep(Duration::from_millis(500).saturating_sub(paused.elapsed())).await;
        cluster.resume();
        let gap = "select max(gap) >= interval '450 ms'
                   from (select at - lag(at) over (order by at) gap from ticks) gaps";
        while cluster.sql("postgres", gap).await.unwrap() != "t" {
            assert!(
                Instant::now() < deadline + Duration::from_secs(5),
                "the backend ran on"
            );
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        done = ticking => panic!("the session ended: {done:?}"),
        () = check => {}
    }
}

#[tokio::test]
async fn cluster_comes_back_after_every_kind_of_end_with_what_was_committed() {
    let (cluster, _dir) = cluster().await;
    let make = "create table t (a int)";
    cluster.sql("postgres", make).await.unwrap();
    for (round, end) in ["kill", "immediate", "stop", "kill"]
        .into_iter()
        .enumerate()
    {
        let insert = format!("insert into t values ({round})");
        cluster.sql("postgres", &insert).await.unwrap();
        let begin = Instant::now();
        match end {
            "kill" => cluster.kill().await,
            "immediate" => {
                let status = cluster.stop_immediately().await.unwrap();
                assert_eq!(status.code(), Some(0), "{status}");
            }
            _ => assert!(cluster.stop().await.unwrap().success()),
        }
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{end}: {:?}",
            begin.elapsed()
        );
        assert!(cluster.sql("postgres", "select 1").await.is_err());
        cluster.start().await.unwrap();
        let count = cluster
            .sql("postgres", "select count(*) from t")
            .await
            .unwrap();
        assert_eq!(count, (round + 1).to_string(), "{end}");
    }
}

/// What a fault does: a table is locked until its future is dropped.
#[tokio::test]
async fn dropped_statement_frees_its_locks() {
    let (cluster, _dir) = cluster().await;
    cluster
        .sql("postgres", "create table t (a int)")
        .await
        .unwrap();
    let lock = "begin; lock table t in access exclusive mode; select pg_sleep(50); commit";
    let locked = "set lock_timeout = '50ms'; select count(*) from t";
    {
        let holding = cluster.sql("postgres", lock);
        let until_locked = async { while cluster.sql("postgres", locked).await.is_ok() {} };
        tokio::select! {
            ended = holding => panic!("the lock is gone: {ended:?}"),
            locked = timeout(Duration::from_secs(5), until_locked) => locked.unwrap(),
        }
    }
    let until_free = async { while cluster.sql("postgres", locked).await.is_err() {} };
    timeout(Duration::from_secs(3), until_free).await.unwrap();
}
