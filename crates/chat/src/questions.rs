//! Who is a member, asked by many at once and answered in few statements.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use hubbub_protocol::{ChannelId, UserId};
use hubbub_store::Error;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

/// Statements at once; what is asked meanwhile shares the next one.
const TURNS: usize = 2;
/// Questions in one statement: some milliseconds of the database.
const BATCH: usize = 1_024;

type Pair = (ChannelId, UserId);

/// What the primary said of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) is_member: bool,
    /// Before the statement.
    pub(crate) as_of: Instant,
}

struct Waiting {
    ticket: u64,
    pair: Pair,
    answer: oneshot::Sender<Result<Answer, Arc<Error>>>,
}

#[derive(Default)]
struct Queue {
    /// Ascending by ticket; taken from the front alone. As long as there are callers.
    waiting: VecDeque<Waiting>,
    tickets: u64,
}

/// The questions that wait for a turn. There is no task: one of those who wait asks for all.
pub(crate) struct Questions {
    queue: Mutex<Queue>,
    turns: Semaphore,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("waiting", &self.queue.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

impl Questions {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            turns: Semaphore::new(TURNS),
        }
    }

    /// Asks, alone or together with others; `read` is one statement, with a deadline of its own.
    /// Cancel-safe: what a caller that goes away was asking for others is asked again by them.
    pub(crate) async fn ask<F>(
        &self,
        pair: Pair,
        read: impl Fn(Vec<Pair>) -> F,
    ) -> Result<Answer, Arc<Error>>
    where
        F: Future<Output = Result<HashSet<Pair>, Error>>,
    {
        let (mut ticket, mut answered) = self.queue_up(pair);
        loop {
            // Waits for: an answer that somebody else asks for; a turn. Answers first, so that
            // nobody takes a turn without need. Both are cancel-safe.
            let turn = tokio::select! {
                biased;
                answer = &mut answered => {
                    if let Ok(answer) = answer {
                        return answer;
                    }
                    (ticket, answered) = self.queue_up(pair);
                    continue;
                }
                turn = self.turns.acquire() => turn.expect("it is never closed"),
            };
            let batch = self.take(ticket);
            if batch.is_empty() {
                // Another one asks for this one.
                drop(turn);
                if let Ok(answer) = answered.await {
                    return answer;
                }
                (ticket, answered) = self.queue_up(pair);
                continue;
            }
            let as_of = Instant::now();
            let result = read(batch.iter().map(|waiting| waiting.pair).collect()).await;
            let result = result.map_err(Arc::new);
            for Waiting { pair, answer, .. } in batch {
                let said = result.as_ref().map_err(Arc::clone).map(|members| Answer {
                    is_member: members.contains(&pair),
                    as_of,
                });
                // Who asked may have gone away.
                answer.send(said).ok();
            }
        }
    }

    fn queue_up(&self, pair: Pair) -> (u64, oneshot::Receiver<Result<Answer, Arc<Error>>>) {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue.lock();
        queue.tickets += 1;
        let ticket = queue.tickets;
        queue.waiting.push_back(Waiting {
            ticket,
            pair,
            answer,
        });
        (ticket, answered)
    }

    /// The next batch, unless the question with this ticket was taken before.
    fn take(&self, ticket: u64) -> Vec<Waiting> {
        let mut queue = self.queue.lock();
        let waits = |first: &Waiting| first.ticket <= ticket;
        if !queue.waiting.front().is_some_and(waits) {
            return Vec::new();
        }
        // Those who went away do not count: a batch of them alone would be taken for none, and who
        // has the turn waits behind them.
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(waiting) = queue.waiting.pop_front()
        {
            if !waiting.answer.is_closed() {
                batch.push(waiting);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use hubbub_protocol::ChannelLetter;
    use tokio::{
        sync::Notify,
        time::{sleep, timeout},
    };

    use super::*;

    fn pair(user: i64) -> Pair {
        let channel = ChannelId::new(ChannelLetter::Channel, 5).expect("from 1");
        (channel, UserId::new(user).expect("from 1"))
    }

    /// A database in which users with even numbers are members, and which counts.
    #[derive(Default)]
    struct Database {
        statements: RefCell<Vec<usize>>,
        away: bool,
    }

    impl Database {
        async fn read(&self, asked: Vec<Pair>) -> Result<HashSet<Pair>, Error> {
            self.statements.borrow_mut().push(asked.len());
            sleep(Duration::from_millis(10)).await;
            if self.away {
                return Err(Error::Refused("away".to_owned()));
            }
            let is_member = |(_, user): &Pair| user.number() % 2 == 0;
            Ok(asked.into_iter().filter(is_member).collect())
        }
    }

    async fn ask_all(database: &Database, users: i64) -> Vec<Result<Answer, Arc<Error>>> {
        let questions = Questions::new();
        let ask = |user| questions.ask(pair(user), |asked| database.read(asked));
        let answers = (1..=users).map(ask);
        futures_util::future::join_all(answers).await
    }

    #[tokio::test]
    async fn question_alone_is_asked_at_once() {
        let begun = Instant::now();
        let answers = ask_all(&Database::default(), 1).await;
        let answer = answers[0].as_ref().expect("an answer");
        assert!(!answer.is_member && answer.as_of >= begun);
    }

    #[tokio::test]
    async fn many_share_statements_and_each_gets_its_own_answer() {
        let (database, users) = (Database::default(), 3 * BATCH as i64);
        let answers = ask_all(&database, users).await;
        for (user, answer) in (1..=users).zip(answers) {
            assert_eq!(
                answer.expect("an answer").is_member,
                user % 2 == 0,
                "{user}"
            );
        }
        let statements = database.statements.take();
        assert_eq!(statements.iter().sum::<usize>(), users as usize);
        assert!(statements.len() <= 6, "{statements:?}");
    }

    #[tokio::test]
    async fn failure_is_everybodys_and_is_not_tried_once_for_each() {
        let database = Database {
            away: true,
            ..Database::default()
        };
        let answers = ask_all(&database, 500).await;
        assert!(answers.iter().all(Result::is_err));
        assert!(database.statements.borrow().len() <= 3);
    }

    #[tokio::test]
    async fn caller_behind_a_crowd_that_went_away_is_answered() {
        let (questions, database) = (Questions::new(), Database::default());
        let moment = Duration::from_millis(1);
        let hang = |_| std::future::pending();
        let mut first = Box::pin(questions.ask(pair(1), hang));
        let mut second = Box::pin(questions.ask(pair(3), hang));
        assert!(timeout(moment, &mut first).await.is_err());
        assert!(timeout(moment, &mut second).await.is_err());
        for _ in 0..=BATCH {
            drop(questions.queue_up(pair(5)));
        }
        let last = questions.ask(pair(4), |asked| database.read(asked));
        let (answer, ()) = tokio::join!(timeout(Duration::from_secs(1), last), async {
            drop(first);
            drop(second);
        });
        let answer = answer.expect("not behind those who are gone");
        assert!(answer.expect("an answer").is_member);
        assert_eq!(database.statements.take(), [1]);
    }

    #[tokio::test]
    async fn caller_that_goes_away_leaves_nobody_behind() {
        let (questions, database) = (Questions::new(), Database::default());
        let hangs = Notify::new();
        let hang = |_| async {
            hangs.notified().await;
            Ok(HashSet::new())
        };
        let moment = Duration::from_millis(1);
        // Both turns are taken...
        let mut first = Box::pin(questions.ask(pair(1), hang));
        let mut second = Box::pin(questions.ask(pair(2), hang));
        assert!(timeout(moment, &mut first).await.is_err());
        assert!(timeout(moment, &mut second).await.is_err());
        // ... and then one by somebody who asks for another one, too.
        let mut third = Box::pin(questions.ask(pair(3), hang));
        let mut fourth = Box::pin(questions.ask(pair(4), |asked| database.read(asked)));
        assert!(timeout(moment, &mut third).await.is_err());
        assert!(timeout(moment, &mut fourth).await.is_err());
        drop(first);
        assert!(timeout(moment, &mut third).await.is_err());
        assert!(timeout(moment, &mut fourth).await.is_err());
        assert_eq!(
            questions.queue.lock().waiting.len(),
            0,
            "asked by the third"
        );
        drop(third);
        let answer = timeout(Duration::from_secs(1), fourth).await;
        assert!(answer.expect("a turn").expect("an answer").is_member);
        drop(second);
    }
}
