//! How a client leaves its group, so that nobody waits for it.
use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    groups::GroupInfo,
};
use tokio::time::Instant;

/// How long the farewell may take before the client is dropped as it is.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a broker may take to say who is in the group.
const ASK_GROUP: Duration = Duration::from_secs(1);
/// Poll while the client is on its way out.
const POLL: Duration = Duration::from_millis(5);

/// Leaves the group and closes the client, within 6 s. Rebalances are answered, and nothing is
/// assigned any more.
pub(crate) fn leave<C: ConsumerContext>(consumer: &BaseConsumer<C>, group: &str, member: &str) {
    let until = Instant::now() + CLOSE;
    // One that failed for good is out of the group.
    if consumer.client().fatal_error().is_none() {
        say_farewell(consumer, group, member, until);
    }
    if let Err(error) = consumer.close_queue() {
        tracing::warn!(%error, "leave the group");
    }
    while !consumer.closed() && Instant::now() < until {
        // What still comes was not asked for: it is the next owner's.
        drop(consumer.poll(POLL));
    }
}

/// Closes a client that failed for good, on a thread of its own.
pub(crate) fn discard<C: ConsumerContext + 'static>(
    consumer: Arc<BaseConsumer<C>>,
    group: String,
    member: String,
) {
    let close = move || leave(&consumer, &group, &member);
    if let Err(error) = thread::Builder::new()
        .name("log-farewell".to_owned())
        .spawn(close)
    {
        tracing::warn!(%error, "no thread to close a client: it is dropped as it is");
    }
}

/// Has a member with a name leave in so many words: closed as it is, librdkafka would keep its
/// place for it (KIP-345), and its partitions would wait for the end of its session.
/// librdkafka does not tell when the broker has taken the farewell, but the group does.
fn say_farewell<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    member: &str,
    until: Instant,
) {
    consumer.unsubscribe();
    loop {
        drop(consumer.poll(POLL));
        let groups = match consumer.fetch_group_list(Some(group), ASK_GROUP) {
            Ok(groups) => groups,
            Err(error) => {
                tracing::info!(%error, "leave the group: no broker hears it, the session ends by itself");
                return;
            }
        };
        let mut members = groups.groups().iter().flat_map(GroupInfo::members);
        if !members.any(|found| is_start_of(member, found.id())) {
            return;
        }
        if Instant::now() >= until {
            tracing::warn!("the group still has this member: its session ends by itself");
            return;
        }
    }
}

/// Whether a member's id is that of a start under this name: a broker calls it by the name, a
/// dash and a UUID of 36 characters (KIP-345).
fn is_start_of(name: &str, id: &str) -> bool {
    let uuid = id
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'));
    uuid.is_some_and(|uuid| uuid.len() == 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_is_known_by_its_name_alone() {
        let uuid = "0a6f2a54-5a27-4a8e-9f0c-0f4f6b1f2d3c";
        assert!(is_start_of(
            "consumer-1.00ff",
            &format!("consumer-1.00ff-{uuid}")
        ));
        assert!(!is_start_of(
            "consumer-1.00ff",
            &format!("consumer-1.00fe-{uuid}")
        ));
        assert!(!is_start_of(
            "consumer-1",
            &format!("consumer-1.00ff-{uuid}")
        ));
        assert!(!is_start_of("consumer-1.00ff", "consumer-1.00ff"));
    }
}
