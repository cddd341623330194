use std::{collections::HashMap, time::Duration};

use hubbub_client::Http;
use hubbub_protocol::{Body, ChannelId, UserId};
use tokio::time::{Instant, timeout};

use crate::show::users;

/// What a name may cost: a message is not held back for long by an API that is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure, no other attempt before then.
const PAUSE: Duration = Duration::from_secs(30);

/// Names of users, asked for once.
#[derive(Debug)]
pub(crate) struct Names {
    http: Http,
    known: HashMap<UserId, String>,
    paused_until: Option<Instant>,
}

impl Names {
    pub(crate) fn new(http: &Http) -> Self {
        Self {
            http: http.clone(),
            known: HashMap::new(),
            paused_until: None,
        }
    }

    /// Learns the first page of a channel's members at once. That it fails does not matter:
    /// names are asked for one by one then.
    pub(crate) async fn learn(&mut self, channel: ChannelId) {
        if let Ok(Ok(page)) = timeout(PATIENCE, self.http.members(channel, None)).await {
            for member in page.items {
                self.known.insert(member.user.id, member.user.name);
            }
        }
    }

    /// Somebody has another name now, perhaps.
    pub(crate) fn forget(&mut self, user: UserId) {
        self.known.remove(&user);
    }

    pub(crate) fn insert(&mut self, user: UserId, name: String) {
        self.known.insert(user, name);
    }

    /// Asks for the names that showing this record needs.
    pub(crate) async fn resolve(&mut self, body: &Body) {
        if let Body::IdentityChange { user, .. } = body {
            self.forget(*user);
        }
        self.ask(users(body)).await;
    }

    /// Asks for these names.
    pub(crate) async fn ask(&mut self, users: impl IntoIterator<Item = UserId>) {
        for user in users {
            let paused = self.paused_until.is_some_and(|at| Instant::now() < at);
            if self.known.contains_key(&user) || paused {
                continue;
            }
            match timeout(PATIENCE, self.http.user(user)).await {
                Ok(Ok(found)) => {
                    self.known.insert(user, found.name);
                }
                Ok(Err(error)) if !error.retryable() => {
                    self.known.insert(user, user.to_string());
                }
                Ok(Err(_)) | Err(_) => self.paused_until = Some(Instant::now() + PAUSE),
            }
        }
    }

    /// The name, or the id of one that could not be asked for.
    pub(crate) fn get(&self, user: UserId) -> String {
        let name = self.known.get(&user).cloned();
        name.unwrap_or_else(|| user.to_string())
    }
}
