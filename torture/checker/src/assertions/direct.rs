//! Direct channels: two users have one, whoever asks (A5), and nobody else is ever given anything
//! of it (A10).

use std::collections::HashMap;

use crate::{
    Assertion,
    findings::Findings,
    index::{Direct, Index, NONE, What},
};

/// The two users of a channel, the lower number first.
type Pair = (u32, u32);

pub(super) fn check(index: &Index, findings: &mut Findings) {
    let mut channels: HashMap<Pair, u32> = HashMap::new();
    let mut pairs: HashMap<u32, Pair> = HashMap::new();
    for direct in &index.directs {
        let pair = (direct.user.min(direct.with), direct.user.max(direct.with));
        let channel = *channels.entry(pair).or_insert(direct.channel);
        let of = *pairs.entry(direct.channel).or_insert(pair);
        if channel != direct.channel || of != pair {
            another(index, direct, findings);
        }
    }
    findings.checked(Assertion::A5, index.directs.len() as u64);
    for stream in &index.streams {
        let Some(pair) = pairs.get(&stream.channel) else {
            continue;
        };
        let user = index.devices[stream.device as usize].user;
        let stranger = user != NONE && user != pair.0 && user != pair.1;
        let mut checked = 0;
        for fact in &stream.facts {
            if matches!(fact.what, What::Asked) {
                continue;
            }
            checked += 1;
            if stranger {
                findings.broken(
                    Assertion::A10,
                    "stranger in a direct channel",
                    Some(fact.at),
                    || {
                        let place = index.place(stream);
                        format!(
                            "{place} is of neither user of it and was sent {:?}",
                            fact.what
                        )
                    },
                );
            }
        }
        findings.checked(Assertion::A10, checked);
    }
}

fn another(index: &Index, direct: &Direct, findings: &mut Findings) {
    findings.broken(
        Assertion::A5,
        "two direct channels of a pair",
        Some(direct.at),
        || {
            format!(
                "{} was told that its channel with {} is {}; it is another, or that of others",
                index.users.name(direct.user),
                index.users.name(direct.with),
                index.channel_name(direct.channel)
            )
        },
    );
}
