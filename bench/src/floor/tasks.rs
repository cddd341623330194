//! What the floors on tokio share.

use std::io::{self, Read as _};

use anyhow::Context;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

/// One thread, like an edge.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")
}

/// Resolves when the input has ended.
pub(super) fn input_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, which sleeps until the process ends: a runtime would wait for it.
    std::thread::spawn(move || {
        io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        sender.send(()).ok();
    });
    receiver
}
