use hubbub_stack::TestEnv;

#[tokio::test]
async fn command_answers_in_text_and_tells_errors() {
    let env = TestEnv::new("command").await.unwrap();
    let redis = env.redis();
    let run = |words: &'static [&'static str]| redis.command(words);
    assert_eq!(run(&["PING"]).await.unwrap(), "PONG");
    assert_eq!(run(&["SET", "key", "two\r\nlines"]).await.unwrap(), "OK");
    assert_eq!(run(&["GET", "key"]).await.unwrap(), "two\r\nlines");
    assert_eq!(run(&["GET", "none"]).await.unwrap(), "");
    assert_eq!(run(&["DEL", "key"]).await.unwrap(), "1");
    assert_eq!(run(&["RPUSH", "list", "a", "b"]).await.unwrap(), "2");
    assert_eq!(run(&["LRANGE", "list", "0", "-1"]).await.unwrap(), "a\nb");
    let nested = "return {1, {2, {'three'}}, 'four'}";
    assert_eq!(
        redis.command(&["EVAL", nested, "0"]).await.unwrap(),
        "1\n2\nthree\nfour"
    );
    let error = format!("{:#}", run(&["NONSENSE"]).await.unwrap_err());
    assert!(error.contains("unknown command"), "{error}");
    redis.kill().await;
    assert!(run(&["PING"]).await.is_err());
}
