//! The chat page in two browsers on two edges, through HAProxy, and what becomes of it when an edge
//! dies between them.

use hubbub_e2e::{Browser, ENTER, World};
use serde_json::{Value, json};

/// What stands in the log, from the top.
const TEXTS: &str = "[...document.querySelectorAll('.channel .message .text')].map((one) => one.firstChild.textContent)";
const COMPOSER: &str = ".channel .composer textarea";

pub(crate) async fn opened(
    world: &World,
    name: &str,
    path: &str,
    number: usize,
) -> anyhow::Result<Browser> {
    let browser = Browser::start(name, 1280, 800).await?;
    open(world, &browser, path, number).await?;
    Ok(browser)
}

async fn open(world: &World, browser: &Browser, path: &str, number: usize) -> anyhow::Result<()> {
    let url = format!("{}{path}?id_user={number}", world.stack.front_url());
    browser.open(&url).await?;
    browser.see(".app[data-connection=open]").await?;
    browser.see(COMPOSER).await
}

pub(crate) async fn say(browser: &Browser, text: &str) -> anyhow::Result<()> {
    browser.keys(COMPOSER, &format!("{text}{ENTER}")).await
}

async fn pod(browser: &Browser) -> anyhow::Result<String> {
    let pod = browser
        .eval("document.querySelector('.app').dataset.pod")
        .await?;
    Ok(pod.as_str().unwrap_or_default().to_owned())
}

fn is_shown(texts: &[String]) -> String {
    format!(
        "JSON.stringify({TEXTS}) === {}",
        json!(json!(texts).to_string())
    )
}

#[tokio::test]
async fn two_browsers_chat_over_two_edges_and_a_killed_one() -> anyhow::Result<()> {
    let world = World::start("web-chat", 2, 1).await?;
    let john = opened(&world, "John", "/ui/Maths", 1).await?;
    let mary = opened(&world, "Mary", "/ui/Maths", 2).await?;
    // HAProxy takes turns; somebody else may have come between.
    for _ in 0..10 {
        if pod(&john).await? != pod(&mary).await? {
            break;
        }
        open(&world, &mary, "/ui/Maths", 2).await?;
    }
    let doomed = pod(&john).await?;
    assert_ne!(doomed, pod(&mary).await?);

    say(&john, "what is 6 times 7?").await?;
    mary.read(".message", "what is 6 times 7?").await?;
    say(&mary, "42").await?;
    let mut all = vec!["what is 6 times 7?".to_owned(), "42".to_owned()];
    for browser in [&john, &mary] {
        browser.wait(&is_shown(&all)).await?;
        browser
            .eval(
                "(window.seen = [], new MutationObserver(() => window.seen.push(\
                 document.querySelector('.banner').hidden)).observe(\
                 document.querySelector('.banner'), { attributes: true }), true)",
            )
            .await?;
    }

    // John's edge dies while both go on talking.
    let edge = world.stack.edges().iter().position(|e| e.name() == doomed);
    let edge = world.stack.edge(edge.expect("a pod has an edge"));
    say(&mary, "before").await?;
    edge.kill().await;
    for n in 0..5 {
        say(&mary, &format!("mary {n}")).await?;
        say(&john, &format!("john {n}")).await?;
    }
    john.wait("window.seen.includes(false) && document.querySelector('.banner').hidden")
        .await?;
    john.see(".app[data-connection=open]").await?;
    assert_ne!(pod(&john).await?, doomed);
    // Everything is there once, for both, in one order: the log's.
    let count = all.len() + 11;
    for browser in [&john, &mary] {
        browser
            .wait(&format!(
                "{TEXTS}.length >= {count} && document.querySelectorAll('.pending').length === 0"
            ))
            .await?;
    }
    world.wait_caught_up().await?;
    let maths = world.channel("Maths").await?;
    all = world
        .history(maths)
        .await?
        .iter()
        .filter_map(|entry| match &entry.body {
            hubbub_protocol::Body::Message { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), count, "{all:?}");
    for browser in [&john, &mary] {
        browser.wait(&is_shown(&all)).await?;
    }
    assert_eq!(
        mary.eval("window.seen.includes(false)").await?,
        json!(false)
    );

    // The edge comes back, and the one that both are on now says goodbye.
    edge.restart().await?;
    let left = pod(&mary).await?;
    let other = world.stack.edges().iter().position(|e| e.name() == left);
    let other = world.stack.edge(other.expect("a pod has an edge"));
    assert!(other.stop().await.is_some_and(|status| status.success()));
    for browser in [&john, &mary] {
        browser
            .wait(&format!(
                "document.querySelector('.app').dataset.pod === {} && \
                 document.querySelector('.app').dataset.connection === 'open'",
                json!(doomed)
            ))
            .await?;
    }
    say(&john, "still here").await?;
    all.push("still here".to_owned());
    for browser in [&john, &mary] {
        browser.wait(&is_shown(&all)).await?;
        // What the dead edge left unsaid is the network's, not the page's.
        let console = browser.console().await?;
        let ours: Vec<_> = console
            .iter()
            .filter(|line| !line.contains("WebSocket connection to"))
            .collect();
        assert!(ours.is_empty(), "{ours:?}");
    }

    // A page that is loaded anew shows the same.
    open(&world, &mary, "/ui/Maths", 2).await?;
    mary.wait(&is_shown(&all)).await?;
    assert_eq!(
        john.eval("document.title").await?,
        Value::from("Maths · Hubbub")
    );
    drop((john, mary));
    world.finish().await
}
