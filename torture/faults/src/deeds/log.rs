//! Kafka, and the ways to it.

use std::time::Duration;

use anyhow::Result;

use super::{Deed, back};

pub(super) async fn down(deed: &Deed<'_>) -> Result<()> {
    let kafka = deed.ground.stack.kafka();
    kafka.kill().await;
    deed.hold().await;
    back(kafka).await
}

pub(super) async fn slow(deed: &Deed<'_>) -> Result<()> {
    let mut dice = deed.dice();
    for link in deed.targets() {
        let delay = Duration::from_millis(dice.within(300..=800));
        deed.ground.link(link)?.delay(delay);
    }
    deed.hold().await;
    for link in deed.targets() {
        deed.ground.link(link)?.heal();
    }
    Ok(())
}
