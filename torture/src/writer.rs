//! A writer with a WebSocket: the client crate, and now and then an application that crashes.

use std::{sync::Arc, time::Duration};

use hubbub_client::{Change, Client, Refused, SendError};
use hubbub_protocol::{ChannelId, MessageId, Outcome, Seq};
use rand::RngExt;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    attempts::{Answer, Attempts, Manners, Next},
    device::Device,
};

/// In so many cases a writer that is in doubt about a send crashes: its connection is cut with
/// everything that is on it, and another client begins. Only what a crash cuts off is ever
/// abandoned or sent again unmarked: the client crate itself always goes on, and always says that
/// it does. Two in three writers crash, so that together about 5 % of what is ambiguous is
/// abandoned, and 10 % of the resends are unmarked.
const CRASHES: f64 = 0.5;
const AFTER_A_CRASH: Manners = Manners {
    abandon: 0.15,
    unmarked: 0.3,
};
/// After it has made up its mind a writer keeps to it for so long.
const CALM: Duration = Duration::from_secs(3);
/// A client that ended is replaced within this.
const ANOTHER_CLIENT: Duration = Duration::from_secs(10);

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where.
    pub channel: ChannelId,
    /// Its identity.
    pub id: MessageId,
    /// What it says, or does to a message.
    pub change: Change,
}

/// How a message ended for its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is in the log; the seq, if the answer named it.
    Stored(Option<Seq>),
    /// It was refused for good.
    Refused,
    /// With no definite answer.
    Abandoned,
}

/// Sends a message until the answer is definite, or it is abandoned. Takes as long as it takes:
/// the caller bounds it.
pub async fn send(device: &Device, message: &Message) -> End {
    let (mut attempts, mut marked) = (Attempts::new(AFTER_A_CRASH), false);
    let mut clients = device.clients();
    loop {
        let client = clients.borrow_and_update().clone();
        let sent = client.change_as(message.channel, message.change.clone(), message.id, marked);
        let mut seq = None;
        let answer = match sent {
            Ok(handle) => match handle.wait().await {
                Ok(sent) => {
                    seq = sent.seq;
                    Answer::Ok
                }
                Err(SendError::Refused(_)) => Answer::Rejected { retryable: false },
                Err(SendError::Ended { outcome, .. }) => match outcome {
                    Outcome::Rejected => Answer::Rejected { retryable: true },
                    Outcome::Unknown => Answer::Unknown,
                },
            },
            Err(Refused::Full | Refused::Closed) => Answer::Rejected { retryable: true },
            Err(Refused::Text(_) | Refused::Reaction(_)) => Answer::Rejected { retryable: false },
        };
        match attempts.after(answer, &mut rand::rng()) {
            Next::Done if answer == Answer::Ok => return End::Stored(seq),
            Next::Done => return End::Refused,
            Next::Abandon => return End::Abandoned,
            Next::Again { marked: again } => marked = again,
        }
        another(&mut clients).await;
    }
}

/// Waits for the client after one that ended; on a full one the same is as good a moment later.
async fn another(clients: &mut watch::Receiver<Client>) {
    timeout(ANOTHER_CLIENT, clients.changed()).await.ok();
}

/// Crashes the application of a device in some of the moments in which it is in doubt. Runs until
/// the device is gone.
pub async fn crash_now_and_then(device: Arc<Device>, mut doubts: mpsc::Receiver<()>) {
    while doubts.recv().await.is_some() {
        if rand::rng().random_bool(CRASHES) {
            device.crash().await;
        }
        sleep(CALM).await;
        // What was said meanwhile belongs to the same doubt.
        doubts.try_recv().ok();
    }
}
