//! The clients' own lines.

use std::time::Duration;

use anyhow::Result;
use hubbub_stack::Proxy;
use tokio::time::sleep;

use super::Deed;

const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn reset(deed: &Deed<'_>) -> Result<()> {
    for link in connected(deed).await? {
        link.cut();
    }
    deed.hold().await;
    Ok(())
}

/// As when a telephone leaves the network: no end is ever told.
pub(super) async fn silence(deed: &Deed<'_>) -> Result<()> {
    for link in connected(deed).await? {
        link.go_silent();
    }
    deed.hold().await;
    Ok(())
}

pub(super) async fn tear(deed: &Deed<'_>) -> Result<()> {
    let mut dice = deed.dice();
    for link in connected(deed).await? {
        link.tear_after(dice.within(1..=400));
    }
    deed.hold().await;
    for link in links(deed)? {
        link.heal();
    }
    Ok(())
}

/// Slow lines while a channel of theirs is busy.
pub(super) async fn slow(deed: &Deed<'_>) -> Result<()> {
    let mut dice = deed.dice();
    for link in links(deed)? {
        link.limit_bandwidth(dice.within(1_024..=4_096));
    }
    let burst = &deed.ground.burst;
    burst.send_modify(|slow| slow.extend(deed.targets().map(str::to_owned)));
    deed.hold().await;
    calm(deed);
    for link in links(deed)? {
        link.heal();
    }
    Ok(())
}

/// Ends the burst that a fault asked for.
pub(super) fn calm(deed: &Deed<'_>) {
    let ours: Vec<&str> = deed.targets().collect();
    let burst = &deed.ground.burst;
    burst.send_modify(|slow| slow.retain(|device| !ours.contains(&device.as_str())));
}

/// The links, once each device has a connection that can be hit: another fault may just have
/// taken it. Those that have none for all the time of this fault are hit all the same.
async fn connected<'a>(deed: &'a Deed<'_>) -> Result<Vec<&'a Proxy>> {
    let all_open = async {
        while !deed
            .targets()
            .all(|device| deed.ground.seen.is_open(device))
        {
            sleep(LOOK_AGAIN).await;
        }
    };
    // Waits for: everybody's connection; the end of the fault.
    tokio::select! {
        () = all_open => {}
        () = deed.hold() => {}
    }
    links(deed)
}

fn links<'a>(deed: &'a Deed<'_>) -> Result<Vec<&'a Proxy>> {
    deed.targets()
        .map(|device| deed.ground.client(device))
        .collect()
}
