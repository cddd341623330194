//! Questions to the store that many have at once, answered in few statements: who is a member,
//! whose subject it is. A pod that comes back is asked by everybody in the same second.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
};

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

/// What a statement found of the keys that it was asked for.
pub trait Found<K> {
    /// What there is to know of a key.
    type Value;

    /// What was found of a key; `None`: nothing.
    fn of(&self, key: &K) -> Option<Self::Value>;
}

impl<K: Eq + Hash> Found<K> for HashSet<K> {
    type Value = ();

    fn of(&self, key: &K) -> Option<()> {
        self.contains(key).then_some(())
    }
}

impl<K: Eq + Hash, V: Clone> Found<K> for HashMap<K, V> {
    type Value = V;

    fn of(&self, key: &K) -> Option<V> {
        self.get(key).cloned()
    }
}

/// What the primary said of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<V> {
    /// `None`: there is nothing.
    pub found: Option<V>,
    /// Before the statement.
    pub as_of: Instant,
}

type Told<V> = Result<Answer<V>, Arc<Error>>;

struct Waiting<K, V> {
    ticket: u64,
    key: K,
    answer: oneshot::Sender<Told<V>>,
}

struct Queue<K, V> {
    /// Ascending by ticket; taken from the front alone. As long as there are callers.
    waiting: VecDeque<Waiting<K, V>>,
    tickets: u64,
}

/// The questions that wait for a turn. There is no task: one of those who wait asks for all.
pub struct Questions<K, V> {
    queue: Mutex<Queue<K, V>>,
    turns: Semaphore,
}

impl<K, V> Default for Questions<K, V> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                tickets: 0,
            }),
            turns: Semaphore::new(TURNS),
        }
    }
}

impl<K, V> fmt::Debug for Questions<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("waiting", &self.queue.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

impl<K: Clone, V> Questions<K, V> {
    /// Asks, alone or together with others; `read` is one statement for all the keys that it gets
    /// (1,024 at most), with a deadline of its own. Its failure is everybody's.
    /// Cancel-safe: what a caller that goes away was asking for others is asked again by them.
    pub async fn ask<F, R>(&self, key: K, read: impl Fn(Vec<K>) -> F) -> Told<V>
    where
        F: Future<Output = Result<R, Error>>,
        R: Found<K, Value = V>,
    {
        let (mut ticket, mut answered) = self.queue_up(key.clone());
        loop {
            // Waits for: an answer that somebody else asks for; a turn. Answers first, so that
            // nobody takes a turn without need. Both are cancel-safe.
            let turn = tokio::select! {
                biased;
                answer = &mut answered => {
                    if let Ok(answer) = answer {
                        return answer;
                    }
                    (ticket, answered) = self.queue_up(key.clone());
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
                (ticket, answered) = self.queue_up(key.clone());
                continue;
            }
            let as_of = Instant::now();
            let result = read(batch.iter().map(|waiting| waiting.key.clone()).collect()).await;
            let result = result.map_err(Arc::new);
            for Waiting { key, answer, .. } in batch {
                let said = result.as_ref().map_err(Arc::clone).map(|found| Answer {
                    found: found.of(&key),
                    as_of,
                });
                // Who asked may have gone away.
                answer.send(said).ok();
            }
        }
    }

    fn queue_up(&self, key: K) -> (u64, oneshot::Receiver<Told<V>>) {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue.lock();
        queue.tickets += 1;
        let ticket = queue.tickets;
        queue.waiting.push_back(Waiting {
            ticket,
            key,
            answer,
        });
        (ticket, answered)
    }

    /// The next batch, unless the question with this ticket was taken before.
    fn take(&self, ticket: u64) -> Vec<Waiting<K, V>> {
        let mut queue = self.queue.lock();
        let waits = |first: &Waiting<K, V>| first.ticket <= ticket;
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

    use hubbub_protocol::{ChannelId, ChannelLetter, UserId};
    use tokio::{
        sync::Notify,
        time::{sleep, timeout},
    };

    use super::*;

    type Pair = (ChannelId, UserId);

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

    async fn ask_all(database: &Database, users: i64) -> Vec<Told<()>> {
        let questions = Questions::default();
        let ask = |user| questions.ask(pair(user), |asked| database.read(asked));
        let answers = (1..=users).map(ask);
        futures_util::future::join_all(answers).await
    }

    #[tokio::test]
    async fn question_alone_is_asked_at_once() {
        let begun = Instant::now();
        let answers = ask_all(&Database::default(), 1).await;
        let answer = answers[0].as_ref().expect("an answer");
        assert!(answer.found.is_none() && answer.as_of >= begun);
    }

    #[tokio::test]
    async fn many_share_statements_and_each_gets_its_own_answer() {
        let (database, users) = (Database::default(), 3 * BATCH as i64);
        let answers = ask_all(&database, users).await;
        for (user, answer) in (1..=users).zip(answers) {
            assert_eq!(
                answer.expect("an answer").found.is_some(),
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
        let (questions, database) = (Questions::default(), Database::default());
        let moment = Duration::from_millis(1);
        let hang = |_| std::future::pending::<Result<HashSet<Pair>, Error>>();
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
        assert!(answer.expect("an answer").found.is_some());
        assert_eq!(database.statements.take(), [1]);
    }

    #[tokio::test]
    async fn caller_that_goes_away_leaves_nobody_behind() {
        let (questions, database) = (Questions::default(), Database::default());
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
        assert!(answer.expect("a turn").expect("an answer").found.is_some());
        drop(second);
    }
}
