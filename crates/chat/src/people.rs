use std::time::Duration;

use hubbub_bus::{Asker, Survey};
use hubbub_protocol::{
    Answer, ChannelId, PodId, PresenceState, Question, UserId, UserPresence,
    http::{Listener, Listeners, Presence},
};

use crate::{Chat, Error};

/// What a question about people waits for the pods. People wait 300 ms at most; the rest is for
/// the look at the membership and the way back.
pub const ASK_DEADLINE: Duration = Duration::from_millis(250);

impl Chat {
    /// The sockets that listen to a channel, on all pods that answer in time; expected are the
    /// pods with a lease. The caller has checked that who asks is a member. Errors:
    /// [`Error::Bus`]. Cancel-safe.
    pub async fn who(&self, asker: &Asker, channel: ChannelId) -> Result<Listeners, Error> {
        let survey = asker.ask(Question::Who { channel }, ASK_DEADLINE).await?;
        Ok(listeners(survey))
    }

    /// A user's state over all pods that answer in time. Errors: [`Error::Bus`]. Cancel-safe.
    pub async fn presence(&self, asker: &Asker, user: UserId) -> Result<Presence, Error> {
        let question = Question::Presence { users: vec![user] };
        let survey = asker.ask(question, ASK_DEADLINE).await?;
        Ok(presence(user, &survey))
    }
}

fn listeners(survey: Survey) -> Listeners {
    let Survey {
        answers,
        mut missing,
    } = survey;
    let mut users = Vec::new();
    for (pod, answer) in answers {
        let Answer::Who { sockets, truncated } = answer else {
            not_in_full(&mut missing, &pod);
            continue;
        };
        if truncated {
            not_in_full(&mut missing, &pod);
        }
        users.extend(sockets.into_iter().map(|listening| Listener {
            socket: listening.socket,
            user: listening.user,
            device: listening.device,
            pod: pod.clone(),
        }));
    }
    Listeners {
        users,
        complete: missing.is_empty(),
        missing,
    }
}

fn not_in_full(missing: &mut Vec<PodId>, pod: &PodId) {
    if let Err(at) = missing.binary_search(pod) {
        missing.insert(at, pod.clone());
    }
}

fn presence(user: UserId, survey: &Survey) -> Presence {
    let states = survey.answers.values().flat_map(|answer| match answer {
        Answer::Presence { states } => states.as_slice(),
        _ => &[],
    });
    let of_user = states.filter(|one| one.user == user).map(|one| one.state);
    Presence {
        user: UserPresence {
            user,
            state: of_user.max().unwrap_or(PresenceState::Offline),
        },
        complete: survey.missing.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::ListeningSocket;

    use super::*;

    fn pod(n: usize) -> PodId {
        format!("edge-{n}").parse().expect("an id")
    }

    fn user(n: i64) -> UserId {
        UserId::new(n).expect("from 1")
    }

    fn who(sockets: usize, truncated: bool) -> Answer {
        let socket = |n| ListeningSocket {
            socket: format!("s-{n}"),
            user: user(1),
            device: "phone".parse().expect("an id"),
        };
        Answer::Who {
            sockets: (0..sockets).map(socket).collect(),
            truncated,
        }
    }

    #[test]
    fn listeners_name_who_is_missing_and_who_did_not_tell_all() {
        let survey = |truncated, missing| Survey {
            answers: [(pod(1), who(2, false)), (pod(2), who(1, truncated))].into(),
            missing,
        };
        let all = listeners(survey(false, vec![]));
        assert!(all.complete && all.missing.is_empty());
        let pods: Vec<_> = all.users.iter().map(|one| one.pod.clone()).collect();
        assert_eq!(pods, [pod(1), pod(1), pod(2)]);
        let some = listeners(survey(true, vec![pod(0), pod(3)]));
        assert!(!some.complete);
        assert_eq!(some.missing, [pod(0), pod(2), pod(3)]);
        assert_eq!(some.users, all.users);
    }

    #[test]
    fn presence_is_the_best_of_what_the_pods_say() {
        use PresenceState::{Active, Away, Offline};
        let says = |state| Answer::Presence {
            states: vec![
                UserPresence {
                    user: user(1),
                    state,
                },
                UserPresence {
                    user: user(2),
                    state: Active,
                },
            ],
        };
        for (states, expected) in [
            (&[][..], Offline),
            (&[Offline, Offline], Offline),
            (&[Offline, Away], Away),
            (&[Active, Away], Active),
        ] {
            let answers = states.iter().enumerate();
            let survey = Survey {
                answers: answers.map(|(n, state)| (pod(n), says(*state))).collect(),
                missing: vec![],
            };
            let said = presence(user(1), &survey);
            assert_eq!((said.user.state, said.complete), (expected, true));
        }
    }
}
