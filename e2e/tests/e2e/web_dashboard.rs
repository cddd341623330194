//! The dashboard in a browser: what it counts, what passes in a channel, and what it says when nobody
//! tells it anything.

use hubbub_e2e::{Browser, World, eventually};
use serde_json::json;

fn tile(name: &str, value: &str) -> String {
    format!(
        "document.querySelector('[data-tile={name}] .value').innerText === {}",
        json!(value)
    )
}

/// The number in one column (from 0, the name not counted) of a row.
fn cell(row: &str, column: usize, value: &str) -> String {
    format!(
        "document.querySelectorAll('{row} td')[{column}]?.innerText.trim() === {}",
        json!(value)
    )
}

#[tokio::test]
async fn dashboard_shows_what_is_there_and_says_when_it_does_not_know() -> anyhow::Result<()> {
    let world = World::start("web-dashboard", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    let mut devices = Vec::new();
    for (n, user) in ["John", "Mary", "Mike"].into_iter().enumerate() {
        let device = world.device_on(user, n % 2).await?;
        device.join(maths).await?;
        devices.push(device);
    }
    let frank = Browser::start("Frank", 1400, 1000).await?;
    let url = format!("{}/ui/dashboard?id_user=4", world.stack.front_url());
    frank.open(&url).await?;
    frank.see(".pill[data-state=live]").await?;
    for (name, value) in [("sockets", "3"), ("channels", "1"), ("pods", "2")] {
        frank.wait(&tile(name, value)).await?;
    }
    let row = format!("tr[data-channel={maths}]");
    frank.wait(&cell(&row, 0, "3")).await?;
    frank.wait(&cell("tr[data-pod=edge-1]", 1, "2")).await?;
    frank.wait(&cell("tr[data-pod=edge-2]", 1, "1")).await?;

    // Somebody comes, and goes.
    let sonia = world.device("Sonia").await?;
    sonia.join(maths).await?;
    frank.wait(&tile("sockets", "4")).await?;
    frank.wait(&cell(&row, 0, "4")).await?;
    sonia.client.close().await;
    frank.wait(&tile("sockets", "3")).await?;
    frank.wait(&cell(&row, 0, "3")).await?;

    // What passes in a channel, from before and from now on.
    devices[0].client.send(maths, "before")?.wait().await?;
    world.wait_caught_up().await?;
    frank.click(&format!("{row} button")).await?;
    for user in ["John", "Mary", "Mike"] {
        frank.read(".chosen .people .name", user).await?;
    }
    frank.read(".records li", "before").await?;
    devices[1].client.send(maths, "<b>now</b>")?.wait().await?;
    frank.read(".records li", "<b>now</b>").await?;
    frank
        .wait("document.querySelector('[data-tile=messages_per_s] .value').innerText !== '0'")
        .await?;
    frank.click(".chosen button").await?;
    frank.see_none(".chosen").await?;

    // More channels than a page holds.
    let http = world.http("John")?;
    for n in 0..59 {
        let new = hubbub_protocol::http::NewChannel {
            name: format!("room-{n:02}"),
            kind: None,
        };
        let channel = http.create_channel(&new).await?;
        devices[0].join(channel.id).await?;
    }
    frank.read(".pager span", "1–50 of 60").await?;
    frank.click(".pager button:last-child").await?;
    frank.read(".pager span", "51–60 of 60").await?;
    frank.keys("input[type=search]", "room-3").await?;
    frank.read(".pager span", "1–10 of 10").await?;
    assert_eq!(frank.console().await?, Vec::<String>::new());

    // Nobody tells it anything: it says so, and knows again when somebody does.
    for api in world.stack.apis() {
        api.kill().await;
    }
    frank.see(".dashboard.stale").await?;
    frank.read(".pill", "not connected").await?;
    for api in world.stack.apis() {
        api.restart().await?;
    }
    frank.see(".pill[data-state=live]").await?;
    frank.wait(&tile("sockets", "3")).await?;

    // Once it is closed the pods are quiet.
    drop(frank);
    eventually("nobody reports", || async {
        Ok(world.pubsub_channels("dashboard").await?.is_empty())
    })
    .await?;
    drop(devices);
    world.finish().await
}
