//! Joins that librdkafka is slow to try again.
//!
//! A broker that has just started answers a JoinGroup with `NOT_COORDINATOR` until it has read the
//! group. librdkafka then waits two seconds before its next try (`rkcg_join_intvl` in
//! rdkafka_cgrp.c), which no setting shortens and which may be longer than a session; nor does it
//! say so. But a subscription that is made anew joins at once, so one is where the group is at rest
//! without us. Never while it is not: the answer to a join under way would be thrown away.
use std::{sync::Arc, time::Duration};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaResult,
    groups::GroupInfo,
};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

/// How long the group must have been at rest: longer than the answer to a join takes then.
const AT_REST: Duration = Duration::from_millis(250);
/// Between two questions for the group.
const EVERY: Duration = Duration::from_millis(100);
/// How long a broker may take to answer one.
const ASK: Duration = Duration::from_secs(1);
/// Tries before the client is left to its own pace.
const TRIES: u32 = 5;

/// A client that waits for an assignment: since it was made, or since it lost the one it had.
#[derive(Debug)]
pub(crate) struct Joining {
    question: Question,
    /// Since when every answer said that the group is at rest.
    at_rest: Option<Instant>,
    tries: u32,
}

#[derive(Debug)]
enum Question {
    Due(Instant),
    /// Whether the group is at rest.
    Asked(oneshot::Receiver<bool>),
}

impl Joining {
    pub(crate) fn begin() -> Self {
        Self {
            question: Question::Due(Instant::now() + EVERY),
            at_rest: None,
            tries: 0,
        }
    }

    /// To be called in each turn of the member as long as there is no assignment. Never waits: the
    /// group is asked for on one of the runtime's blocking threads.
    pub(crate) fn serve<C: ConsumerContext + 'static>(
        &mut self,
        consumer: &Arc<BaseConsumer<C>>,
        (group, topic): (&str, &str),
        runtime: &Handle,
    ) -> KafkaResult<()> {
        match &mut self.question {
            Question::Due(at) if self.tries < TRIES && *at <= Instant::now() => {
                self.question = Question::Asked(ask(consumer, group, runtime));
            }
            Question::Due(_) => {}
            Question::Asked(answer) => {
                let is_at_rest = match answer.try_recv() {
                    Ok(is_at_rest) => is_at_rest,
                    Err(oneshot::error::TryRecvError::Closed) => false,
                    Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                };
                self.question = Question::Due(Instant::now() + EVERY);
                if !is_at_rest {
                    self.at_rest = None;
                } else if self.at_rest.get_or_insert_with(Instant::now).elapsed() >= AT_REST {
                    self.at_rest = None;
                    self.tries += 1;
                    tracing::info!("the group is at rest without this member: it joins anew");
                    consumer.unsubscribe();
                    return consumer.subscribe(&[topic]);
                }
            }
        }
        Ok(())
    }
}

fn ask<C: ConsumerContext + 'static>(
    consumer: &Arc<BaseConsumer<C>>,
    group: &str,
    runtime: &Handle,
) -> oneshot::Receiver<bool> {
    let (tell, answer) = oneshot::channel();
    let (consumer, group) = (Arc::clone(consumer), group.to_owned());
    runtime.spawn_blocking(move || {
        // An error is no answer: no broker is there, or it has not read the group yet.
        if let Ok(groups) = consumer.fetch_group_list(Some(&group), ASK) {
            let is_at_rest = |group: &GroupInfo| group.state() == "Stable";
            // Who asked may have its assignment by now.
            tell.send(groups.groups().iter().any(is_at_rest)).ok();
        }
    });
    answer
}
