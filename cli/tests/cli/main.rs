//! The program itself: exit codes, what it prints, what it tells people who made a mistake.

mod admin;
mod export;
mod import;
mod program;

use std::{io::Write, net::TcpListener};

use hubbub_service::{
    token::{TokenConfig, Verifier},
    wall_clock_ms,
};
use program::{Program, hubbub};

fn secret_file(secret: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(secret).expect("written");
    file
}

#[test]
fn token_is_one_that_the_servers_take() {
    let file = secret_file(b"0123456789abcdef0123456789abcdef\n");
    let path = file.path().to_str().expect("a path");
    let args = ["token", "Mary", "--ttl", "60", "--device", "phone"];
    let done = hubbub(&args).env("HUBBUB_JWT_SECRET_FILE", path).run();
    assert_eq!(done.code, 0, "{done:?}");
    let verifier = Verifier::load(&TokenConfig {
        jwt_secret_file: Some(file.path().to_owned()),
        jwks_file: None,
        jwt_issuer: "hubbub".to_owned(),
        jwt_audience: "hubbub".to_owned(),
    });
    let now_s = wall_clock_ms() / 1_000;
    let claims = verifier
        .expect("a verifier")
        .verify(done.out.trim(), now_s)
        .expect("a valid token");
    assert_eq!(claims.subject, "Mary");
    assert_eq!(claims.device, "phone".parse().ok());
    assert!((now_s..=now_s + 70).contains(&claims.expires_at));
}

#[test]
fn mistakes_exit_64_and_name_the_remedy() {
    let short = secret_file(b"short");
    let short = short.path().to_str().expect("a path");
    let cases: [(Program, &str, i32); 6] = [
        (hubbub(&["dance"]), "unrecognized subcommand", 64),
        (hubbub(&["tail", "Maths"]), "HUBBUB_TOKEN", 64),
        (
            hubbub(&["tail", "Maths", "--as", "Mary"]),
            "HUBBUB_JWT_SECRET_FILE",
            64,
        ),
        (
            hubbub(&["tail", "Maths", "--token", "x", "--url", "https://x"]),
            "http://host:port",
            64,
        ),
        (hubbub(&["admin", "status"]), "SHARD_DATABASE_URLS", 64),
        (
            hubbub(&["token", "Mary"]).env("HUBBUB_JWT_SECRET_FILE", short),
            "32",
            1,
        ),
    ];
    for (program, expected, code) in cases {
        let done = program.run();
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.err.contains(expected), "{done:?}");
        assert_eq!(done.out, "", "{done:?}");
    }
}

#[test]
fn absent_server_is_said_with_what_to_do() {
    // A port that was free a moment ago, and that nobody listens on.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let url = format!("http://127.0.0.1:{port}");
    let done = hubbub(&["channels", "--token", "x", "--url", &url]).run();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains(&url), "{done:?}");
    assert!(done.err.contains("./dev up"), "{done:?}");
    assert!(!done.err.contains("panicked"), "{done:?}");
}

#[test]
fn help_shows_examples() {
    let done = hubbub(&["--help"]).run();
    assert_eq!(done.code, 0);
    assert!(done.out.contains("hubbub chat Maths --as John"), "{done:?}");
    for command in ["chat", "tail", "send", "history", "token", "pubsub"] {
        let done = hubbub(&[command, "--help"]).run();
        assert!(done.out.contains("Example"), "{command}: {done:?}");
    }
}
