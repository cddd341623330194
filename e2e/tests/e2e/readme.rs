//! The README's own commands, as they stand there.

use std::{
    collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration,
};

use anyhow::{Context, ensure};
use hubbub_e2e::{World, eventually};
use tokio::{process::Command, time::timeout};

/// What is run may fetch a package.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a person does who sees that something is not there yet: looks again, for half a minute.
const LOOK: &str = r#"look() {
    local wanted=$1 said; shift
    for _ in {1..100}; do
        if said=$("$@") && [[ $said == *"$wanted"* ]]; then printf '%s\n' "$said"; return; fi
        sleep 0.3
    done
    printf '%s\n' "$said"; return 1
}
"#;
/// The commands that only look, and what they show in the end: a pod that is busy for a quarter of
/// a second is missing among who is here, and history has what is stored.
const LOOKS: [(&str, &str); 4] = [
    ("history", "42, I know"),
    ("unread", "@Mary"),
    ("who", "John"),
    ("presence", "Frank"),
];

/// A block whose looks are repeated.
fn patient(block: &str) -> String {
    let mut script = LOOK.to_owned();
    for line in block.lines() {
        let mut looks = LOOKS.iter();
        let look = looks.find(|(name, _)| line.starts_with(&format!("./dev hubbub {name} ")));
        if let Some((_, wanted)) = look {
            script.push_str(&format!("look '{wanted}' "));
        }
        script.push_str(&format!("{line}\n"));
    }
    script
}

/// The fenced blocks that say `test=<name>`.
fn blocks(readme: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in readme.lines() {
        match &mut open {
            None => {
                if let Some(name) = line.strip_prefix("```sh test=") {
                    open = Some((name.to_owned(), String::new()));
                }
            }
            Some(_) if line == "```" => found.extend(open.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

async fn run(world: &World, dir: &Path, block: &str) -> anyhow::Result<String> {
    // The one thing that differs: the test's front port is any free one.
    let front = world.stack.haproxy().front().to_string();
    let script = block.replace("127.0.0.1:8080", &front);
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(dir)
        .kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // A person's terminal stays open; `wscat` ends when it does not.
    let terminal = child.stdin.take();
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .context("the README's command hangs")??;
    drop(terminal);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{script}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Runs a command that fetches something, up to three times: a registry may fail once.
async fn fetch(world: &World, dir: &Path, command: &str) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        let fetched = run(world, dir, command).await;
        tries += 1;
        if fetched.is_ok() || tries == 3 {
            return fetched.map(drop);
        }
    }
}

#[tokio::test]
async fn the_readmes_commands_do_what_it_says() -> anyhow::Result<()> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let blocks = blocks(&std::fs::read_to_string(readme)?);
    let world = World::start("readme", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    // `./dev hubbub …` is the client with the running system's addresses.
    let dir = tempfile::tempdir()?;
    let mut dev = String::from("#!/bin/bash\nset -e\n[ \"$1\" = hubbub ] && shift\n");
    for (key, value) in world.stack.endpoints().env() {
        dev.push_str(&format!("export {key}='{value}'\n"));
    }
    dev.push_str(&format!(
        "exec '{}/hubbub' \"$@\"\n",
        world.stack.bin_dir().display()
    ));
    let path = dir.path().join("dev");
    std::fs::write(&path, dev)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;

    // What the blocks fetch is there before they are run.
    let wscat = blocks["wscat"].split(" -c ").next().context("wscat")?;
    fetch(&world, dir.path(), &format!("{wscat} --version")).await?;
    let websockets = blocks["python"].lines().next().context("python")?;
    fetch(&world, dir.path(), websockets).await?;

    let john = world.device("John").await?;
    john.join(maths).await?;
    for (name, text, shown) in [
        ("curl", "hello from curl", true),
        ("wscat", "hello from wscat", false),
        ("python", "hello from Python", true),
    ] {
        let output = run(&world, dir.path(), blocks.get(name).context(name)?).await?;
        ensure!(
            !shown || output.contains("\"seq\":"),
            "{name} printed {output}"
        );
        john.wait_text(maths, text).await?;
    }
    let history = world.http("Frank")?;
    eventually("history has all three", || async {
        let page = history
            .messages(maths, hubbub_client::Page::default())
            .await?;
        Ok(page.messages.len() >= 3)
    })
    .await?;
    let people = patient(blocks.get("people").context("people")?);
    let people = run(&world, dir.path(), &people).await?;
    for expected in ["edited", "42, I know", "given", "sent", "John", "Frank"] {
        ensure!(
            people.contains(expected),
            "{expected}: people printed {people}"
        );
    }
    let live = run(&world, dir.path(), blocks.get("pubsub").context("pubsub")?).await?;
    ensure!(live.contains("channel-C000000002"), "pubsub printed {live}");
    world.finish().await
}
