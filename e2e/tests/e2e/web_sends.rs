//! What becomes of a message that the page could not send, or did not hear of.

use anyhow::Context;
use hubbub_e2e::{Browser, World};
use hubbub_protocol::Body;
use serde_json::json;

use crate::web_chat::{opened, say};

/// From now on the server gets messages with this text without it, and refuses them.
const SPOIL: &str = "(window.sent = WebSocket.prototype.send, window.spoilt = 0, WebSocket.prototype.send = function (text) { \
                     const spoilt = text.replace('\"text\":\"refused', '\"text\":\"\\\\u0000'); \
                     if (spoilt !== text) window.spoilt += 1; window.sent.call(this, spoilt); }, true)";
const MEND: &str = "(WebSocket.prototype.send = window.sent, true)";

/// How often a text stands in the channel, on its way or arrived.
fn shown(text: &str) -> String {
    let text = json!(text);
    format!(
        "[...document.querySelectorAll('.channel .message .text')]\
         .filter((one) => one.firstChild.textContent === {text}).length"
    )
}

/// How often it is in the store.
async fn stored(world: &World, text: &str) -> anyhow::Result<usize> {
    world.wait_caught_up().await?;
    let history = world.history(world.channel("Maths").await?).await?;
    let is_it = |body: &Body| matches!(body, Body::Message { text: found, .. } if found == text);
    Ok(history.iter().filter(|entry| is_it(&entry.body)).count())
}

async fn until_shown_once(browser: &Browser, text: &str) -> anyhow::Result<()> {
    let shown = shown(text);
    let settled = "document.querySelectorAll('.pending').length === 0";
    browser.wait(&format!("{shown} === 1 && {settled}")).await?;
    Ok(())
}

#[tokio::test]
async fn message_that_was_refused_is_tried_again_or_discarded() -> anyhow::Result<()> {
    let world = World::start("web-refused", 1, 1).await?;
    let john = opened(&world, "John", "/ui/Maths", 1).await?;
    let mary = opened(&world, "Mary", "/ui/Maths", 2).await?;
    mary.eval(SPOIL).await?;
    say(&mary, "refused at first").await?;
    mary.read(".message.failed .problem", "Not sent").await?;
    let id = mary
        .eval("document.querySelector('.message.failed').dataset.id")
        .await?;
    let id = id.as_str().context("a message has an id")?.to_owned();
    // Still refused: it is offered again, as often as that takes.
    mary.click(".message.failed [data-name=again]").await?;
    mary.wait("window.spoilt === 2").await?;
    mary.eval(MEND).await?;
    let again = "document.querySelector('.message.failed [data-name=again]')?.click()";
    mary.wait(&format!(
        "({again}, document.querySelector('.pending') === null)"
    ))
    .await?;
    until_shown_once(&mary, "refused at first").await?;
    john.read(".message", "refused at first").await?;
    // It is the same message, not one like it.
    john.see(&format!(".message[data-id='{id}']")).await?;

    mary.eval(SPOIL).await?;
    say(&mary, "refused for good").await?;
    mary.click(".message.failed [data-name=discard]").await?;
    mary.wait(&format!("{} === 0", shown("refused for good")))
        .await?;
    mary.eval(MEND).await?;
    say(&mary, "afterwards").await?;
    john.read(".message", "afterwards").await?;
    assert_eq!(
        john.eval(&shown("refused for good")).await?,
        json!(0),
        "it was thrown away"
    );
    assert_eq!(stored(&world, "refused at first").await?, 1);
    assert_eq!(stored(&world, "refused for good").await?, 0);
    for browser in [&john, &mary] {
        assert_eq!(browser.console().await?, Vec::<String>::new());
    }
    drop((john, mary));
    world.finish().await
}

#[tokio::test]
async fn message_without_an_answer_outlives_a_reload_and_arrives_once() -> anyhow::Result<()> {
    let world = World::start("web-reload", 1, 1).await?;
    let john = opened(&world, "John", "/ui/Maths", 1).await?;
    let mary = opened(&world, "Mary", "/ui/Maths", 2).await?;
    let url = format!("{}/ui/Maths?id_user=2", world.stack.front_url());
    let edge = world.stack.edge(0);

    // The edge has the frame, and does not come to answering it before the page is loaded anew.
    edge.pause();
    say(&mary, "written").await?;
    mary.see(".message.pending").await?;
    mary.open(&url).await?;
    mary.read(".message.pending", "written").await?;
    edge.resume();
    mary.see(".app[data-connection=open]").await?;
    for browser in [&mary, &john] {
        until_shown_once(browser, "written").await?;
    }

    // There is no edge at all.
    edge.kill().await;
    mary.wait("document.querySelector('.app').dataset.connection !== 'open'")
        .await?;
    say(&mary, "kept").await?;
    mary.read(".message.pending", "kept").await?;
    mary.open(&url).await?;
    mary.read(".message.pending", "kept").await?;
    edge.start().await?;
    for browser in [&mary, &john] {
        // Without a click it waits for as long again as the edge was away.
        browser
            .wait(
                "(document.querySelector('.banner:not([hidden]) button')?.click(), \
                 document.querySelector('.app').dataset.connection === 'open')",
            )
            .await?;
        until_shown_once(browser, "kept").await?;
    }
    for text in ["written", "kept"] {
        assert_eq!(stored(&world, text).await?, 1, "{text}");
    }
    // What was answered is not kept.
    mary.open(&url).await?;
    mary.see(".app[data-connection=open]").await?;
    until_shown_once(&mary, "kept").await?;
    drop((john, mary));
    world.finish().await
}
