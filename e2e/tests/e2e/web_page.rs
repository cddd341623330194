//! What people do on the chat page, and how others see it; what the page lets in; who may come.

use anyhow::{Context, ensure};
use hubbub_e2e::{Browser, ENTER, ESCAPE, UP, World, eventually};
use serde_json::json;

use crate::web_chat::{opened, say};

/// The row of a text, by its seq.
async fn row(browser: &Browser, text: &str) -> anyhow::Result<String> {
    let text = json!(text);
    let find = format!(
        "[...document.querySelectorAll('.channel .message[data-seq]')].find((one) => \
         one.querySelector('.text')?.innerText.includes({text}))?.dataset.seq ?? ''"
    );
    let seq = browser.wait(&find).await?;
    let seq = seq.as_str().context("a seq is text")?;
    Ok(format!(".channel .message[data-seq=\"{seq}\"]"))
}

/// Does something to a message by its row's buttons.
async fn act(browser: &Browser, row: &str, action: &str) -> anyhow::Result<()> {
    browser.hover(&format!("{row} .message-body")).await?;
    browser
        .click(&format!("{row} .actions [data-name={action}]"))
        .await
}

/// The address as a program sees it.
async fn status(world: &World, path: &str) -> anyhow::Result<reqwest::Response> {
    Ok(reqwest::get(format!("{}{path}", world.stack.front_url())).await?)
}

#[tokio::test]
async fn what_one_does_the_other_sees() -> anyhow::Result<()> {
    let world = World::start("web-page", 2, 1).await?;
    let mary_id = world.user("Mary").await?;
    let john = opened(&world, "John", "/ui/Maths", 1).await?;
    let mary = opened(&world, "Mary", "/ui/Maths", 2).await?;

    // Typing is seen, and gone with the message.
    mary.keys(".channel .composer textarea", "4").await?;
    john.read(".typing", "Mary is typing").await?;
    mary.keys(".channel .composer textarea", &format!("1, I think{ENTER}"))
        .await?;
    let at_john = row(&john, "41, I think").await?;
    john.wait("document.querySelector('.typing').innerText === ''")
        .await?;

    // Edit by the keyboard, deletion, reaction. Only what was answered can be edited.
    row(&mary, "41, I think").await?;
    mary.keys(".channel .composer textarea", UP).await?;
    mary.eval("document.querySelector('.editor textarea').select() ?? true")
        .await?;
    mary.keys(".editor textarea", &format!("42, I know{ENTER}"))
        .await?;
    john.read(&at_john, "42, I know").await?;
    john.read(&at_john, "(edited)").await?;
    act(&john, &at_john, "react").await?;
    john.click(&format!("{at_john} .picker button:nth-of-type(4)"))
        .await?;
    mary.see(".reaction[data-reaction='🎉'][aria-pressed=false]")
        .await?;
    john.click(".reaction[data-reaction='🎉'][aria-pressed=true]")
        .await?;
    mary.see_none(".reaction").await?;
    say(&mary, "to be deleted").await?;
    let gone = row(&mary, "to be deleted").await?;
    row(&john, "to be deleted").await?;
    act(&mary, &gone, "delete").await?;
    mary.click(&format!("{gone} .actions [data-name=sure]"))
        .await?;
    john.read(&gone, "This message was deleted.").await?;

    // A thread beside the channel.
    act(&john, &at_john, "reply").await?;
    john.see(".side .composer textarea").await?;
    john.keys(".side .composer textarea", &format!("thank you{ENTER}"))
        .await?;
    mary.read(&format!("{at_john} .replies"), "1 reply").await?;
    mary.click(&format!("{at_john} .replies")).await?;
    mary.read(".side .message .text", "thank you").await?;
    mary.keys(".side .composer textarea", &format!("my pleasure{ENTER}"))
        .await?;
    john.read(".side .message .text", "my pleasure").await?;
    john.keys(".side .composer textarea", ESCAPE).await?;
    john.see_none(".side").await?;

    // What looks like HTML is text.
    let html = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script> &amp; https://example.com/a?b=1.";
    say(&mary, html).await?;
    let text = row(&john, html).await?;
    assert_eq!(
        john.eval("[window.hit ?? 0, document.querySelectorAll('.log img, .log script').length]")
            .await?,
        json!([0, 0])
    );
    let link = john
        .eval(&format!("document.querySelector('{text} a').href"))
        .await?;
    assert_eq!(link, json!("https://example.com/a?b=1"));

    // Who is here, and a word in private with its signs.
    john.click(".channel-head button[aria-label=People]")
        .await?;
    let person = format!(".people li[data-user={mary_id}]");
    john.see(&format!("{person} .presence.active")).await?;
    john.see(&format!("{person} .tag")).await?;
    john.click(&format!("{person} [data-name=direct]")).await?;
    john.read(".channel-head h1", "Mary").await?;
    say(&john, "coffee?").await?;
    john.see(".channel .message[data-state=delivered]").await?;
    mary.see(".sidebar a.unread .badge").await?;
    mary.wait("document.title.startsWith('(1)')").await?;
    mary.click(".sidebar a.unread").await?;
    row(&mary, "coffee?").await?;
    john.see(".channel .message[data-state=read] .sign[aria-label=Read]")
        .await?;
    mary.see_none(".sidebar .badge").await?;

    // Another name is everywhere at once.
    mary.click(".sidebar .me").await?;
    mary.eval("document.querySelector('dialog input[name=name]').select() ?? true")
        .await?;
    mary.keys("dialog input[name=name]", "Mary Ann").await?;
    mary.keys("dialog input[name=status]", &format!("at lunch{ENTER}"))
        .await?;
    mary.see_none("dialog").await?;
    john.read(".channel-head h1", "Mary Ann").await?;
    john.read(".channel-head .about", "at lunch").await?;
    john.click(".sidebar a[href^='/ui/Maths']").await?;
    john.read(&format!("{at_john} .name"), "Mary Ann").await?;

    // Nobody has complained, and she is gone when her browser is.
    for browser in [&john, &mary] {
        assert_eq!(browser.console().await?, Vec::<String>::new());
    }
    drop(mary);
    let gone = format!(".people li[data-user={mary_id}] .presence.offline");
    john.see(&gone).await?;
    world.finish().await
}

#[tokio::test]
async fn admin_of_a_channel_changes_what_others_wrote() -> anyhow::Result<()> {
    let world = World::start("web-admin", 1, 1).await?;
    // John has created it.
    world.open_channel("club").await?;
    let john = opened(&world, "John", "/ui/club", 1).await?;
    let mary = opened(&world, "Mary", "/ui/club", 2).await?;
    say(&mary, "rude words").await?;
    let rude = row(&john, "rude words").await?;
    act(&john, &rude, "edit").await?;
    john.eval("document.querySelector('.editor textarea').select() ?? true")
        .await?;
    john.keys(".editor textarea", &format!("kind words{ENTER}"))
        .await?;
    mary.read(&rude, "kind words").await?;
    mary.read(&rude, "(edited by John)").await?;
    act(&john, &rude, "delete").await?;
    john.click(&format!("{rude} .actions [data-name=sure]"))
        .await?;
    mary.read(&rude, "This message was deleted.").await?;

    // A member who is no admin is not offered it.
    say(&john, "house rules").await?;
    let rules = row(&mary, "house rules").await?;
    mary.hover(&format!("{rules} .message-body")).await?;
    mary.see(&format!("{rules} .actions [data-name=react]"))
        .await?;
    for action in ["edit", "delete"] {
        mary.see_none(&format!("{rules} .actions [data-name={action}]"))
            .await?;
    }
    for browser in [&john, &mary] {
        assert_eq!(browser.console().await?, Vec::<String>::new());
    }
    drop((john, mary));
    world.finish().await
}

#[tokio::test]
async fn channel_that_somebody_adds_one_to_is_there_at_once() -> anyhow::Result<()> {
    let world = World::start("web-added", 2, 1).await?;
    let mary = opened(&world, "Mary", "/ui/Maths", 2).await?;
    let http = world.http("John")?;
    let hideout = http.create_channel(&World::new_private("hideout")).await?;
    let mary_id = world.user("Mary").await?;
    mary.see_none(".sidebar a[href^='/ui/hideout']").await?;
    http.add_member(hideout.id, hubbub_client::Who::User(mary_id))
        .await?;
    mary.see(".sidebar a[href^='/ui/hideout']").await?;
    // It is listened to: what is said there is counted.
    let john = world.device("John").await?;
    john.client.send(hideout.id, "psst")?.wait().await?;
    mary.see(".sidebar a.unread[href^='/ui/hideout'] .badge")
        .await?;
    mary.click(".sidebar a[href^='/ui/hideout']").await?;
    row(&mary, "psst").await?;
    assert_eq!(mary.console().await?, Vec::<String>::new());
    drop((john, mary));
    world.finish().await
}

#[tokio::test]
async fn page_is_narrow_scrolls_back_and_loads_nothing_foreign() -> anyhow::Result<()> {
    let world = World::start("web-narrow", 1, 1).await?;
    let maths = world.channel("Maths").await?;
    let device = world.device("Frank").await?;
    let texts: Vec<_> = (0..180).map(|n| format!("message {n:03}")).collect();
    let sends: Vec<_> = texts
        .iter()
        .map(|text| device.client.send(maths, text.clone()))
        .collect::<Result<_, _>>()?;
    let mut last = None;
    for sent in sends {
        last = last.max(sent.wait().await?.seq);
    }
    world.wait_caught_up().await?;
    let john = Browser::start("John", 390, 780).await?;
    let url = format!("{}/ui/Maths?id_user=1", world.stack.front_url());
    john.open(&url).await?;
    john.read(".message", "message 179").await?;
    // Nothing is wider than the screen, and the channels are behind a button.
    assert_eq!(
        john.eval(
            "[document.documentElement, document.querySelector('.log')]\
             .map((one) => one.scrollWidth - one.clientWidth)"
        )
        .await?,
        json!([0, 0])
    );
    john.see_none(".sidebar").await?;
    john.click("button[aria-label=Channels]").await?;
    john.see(".sidebar").await?;
    john.keys(".sidebar a", ESCAPE).await?;
    john.see_none(".sidebar").await?;

    // Older messages come while one scrolls up, and what is read stays where it is.
    let place = "(() => { const log = document.querySelector('.log'); const top = log.getBoundingClientRect().top; \
                 const row = [...log.querySelectorAll('.message')].find((one) => one.getBoundingClientRect().top >= top); \
                 return [row.dataset.seq, row.getBoundingClientRect().top]; })()";
    let count = "document.querySelectorAll('.log .message').length";
    john.eval("(document.querySelector('.log').scrollTop = 500, true)")
        .await?;
    let before = john.eval(&format!("[{place}, {count}]")).await?;
    let shown = before[1].as_u64().context("a count")?;
    john.eval("(document.querySelector('.log').scrollTop -= 150, true)")
        .await?;
    let wanted = john.eval(place).await?;
    john.wait(&format!("{count} > {shown}")).await?;
    let now = john.eval(place).await?;
    let moved = now[1].as_f64().context("a place")? - wanted[1].as_f64().context("a place")?;
    // A scroll place is a whole number of the screen's pixels.
    assert!(now[0] == wanted[0] && moved.abs() <= 1.0, "{wanted} {now}");
    john.see(".to-end").await?;
    // All of it is there in the end, in order, once.
    let all = json!(texts);
    john.wait(&format!(
        "(document.querySelector('.log').scrollTop = 0, JSON.stringify([...document.querySelectorAll(\
         '.log .message .text')].map((one) => one.firstChild.textContent)) === JSON.stringify({all}))"
    ))
    .await?;
    john.click(".to-end").await?;
    let http = world.http("John")?;
    eventually("the end was read", || async {
        let unread = http.unread().await?;
        let found = unread.channels.iter().find(|one| one.channel == maths);
        Ok(found.is_some_and(|one| one.unread == 0 && Some(one.read) >= last))
    })
    .await?;

    // The keyboard alone: up into the messages, into the actions of one, and back.
    john.keys(".log", UP).await?;
    john.wait("document.activeElement.matches('.message')")
        .await?;
    john.keys(".message:focus", ENTER).await?;
    john.wait("document.activeElement.closest('.actions') !== null")
        .await?;
    john.keys(".actions button:focus", ESCAPE).await?;
    john.keys(".message:focus", ESCAPE).await?;
    john.wait("document.activeElement.matches('.composer textarea')")
        .await?;
    assert_eq!(john.console().await?, Vec::<String>::new());

    let page = status(&world, "/ui/Maths").await?;
    let policy = page.headers()["content-security-policy"].to_str()?;
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let tag = page.headers()["etag"].clone();
    let again = reqwest::Client::new()
        .get(format!("{}/ui/Maths", world.stack.front_url()))
        .header("if-none-match", tag)
        .send()
        .await?;
    assert_eq!(again.status(), 304);
    assert_eq!(
        status(&world, "/ui/assets/..%2Findex.html").await?.status(),
        404
    );
    drop((john, device));
    world.finish().await
}

#[tokio::test]
async fn without_development_sign_in_the_page_asks_for_a_token() -> anyhow::Result<()> {
    let world = World::start("web-token", 1, 1).await?;
    for api in world.stack.apis() {
        api.set_env("HUBBUB_DEV_SIGN_IN", "false");
        api.restart().await?;
    }
    let sign_in = format!("{}/ui/sign-in", world.stack.front_url());
    let client = reqwest::Client::new();
    eventually("HAProxy sees a server again", || async {
        let request = client.post(&sign_in).json(&json!({ "id_user": 1 }));
        let status = request.send().await?.status();
        ensure!(status == 404 || status == 503, "{status}");
        Ok(status == 404)
    })
    .await?;

    let john = Browser::start("John", 1280, 800).await?;
    john.open(&format!("{}/ui/Maths?id_user=1", world.stack.front_url()))
        .await?;
    john.see("textarea[name=token]").await?;
    john.keys("textarea[name=token]", "no.such.token").await?;
    john.click("button[type=submit]").await?;
    john.read(".problem", "does not take this token").await?;
    john.eval("(document.querySelector('textarea[name=token]').value = '', true)")
        .await?;
    john.keys("textarea[name=token]", &world.token("John")?)
        .await?;
    john.click("button[type=submit]").await?;
    john.see(".app[data-connection=open]").await?;
    say(&john, "by token").await?;
    row(&john, "by token").await?;
    // It is nowhere in the address, and a tab that is loaded anew still has it.
    assert_eq!(
        john.eval("location.href.includes('eyJ')").await?,
        json!(false)
    );
    john.open(&format!("{}/ui/general", world.stack.front_url()))
        .await?;
    john.see(".app[data-connection=open]").await?;
    drop(john);
    world.finish().await
}
