//! Records that no edge would have appended, straight into the log.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hubbub_log::{Appender, Config, Metrics, Report};
use hubbub_protocol::{ChannelId, ChannelLetter};
use tokio::{sync::oneshot, time::timeout};

use super::Deed;
use crate::dice::Dice;

/// Two, at least, and at most of all kinds.
const FEWEST: usize = 2;
/// They go into channels with these numbers, at most: wherever those are, the first exist.
const CHANNELS: u64 = 64;
const REPORT: Duration = Duration::from_secs(20);

pub(super) async fn append(deed: &Deed<'_>) -> Result<()> {
    let mut dice = deed.dice();
    let records = draw(&mut dice);
    let stack = &deed.ground.stack;
    // Past every link: a slow one is another fault.
    let config = Config {
        brokers: stack.kafka().brokers(),
        topic: stack.endpoints().topic.clone(),
        partitions: stack.endpoints().partitions,
        // For seqs alone, which nobody asks for here.
        base: 0,
        client_id: "hubbub-faults".to_owned(),
    };
    let tell = |tell: oneshot::Sender<Report>, report| {
        // Who has given up waiting has said so.
        tell.send(report).ok();
    };
    let appender =
        Appender::start(&config, &Metrics::default(), tell).context("start a producer")?;
    let outcome = append_all(&appender, records).await;
    // Ending a producer joins its thread.
    let ended = tokio::task::spawn_blocking(move || drop(appender));
    ended.await.context("end the producer")?;
    outcome?;
    deed.hold().await;
    Ok(())
}

async fn append_all(
    appender: &Appender<oneshot::Sender<Report>>,
    records: Vec<(ChannelId, Vec<u8>)>,
) -> Result<()> {
    let mut told = Vec::new();
    for (channel, payload) in records {
        let (tell, report) = oneshot::channel();
        if let Err((_, rejected)) = appender.append(channel, payload, tell) {
            bail!("append a poison record: {rejected}");
        }
        told.push(report);
    }
    for report in told {
        let report = timeout(REPORT, report)
            .await
            .context("no report of a poison record")?;
        ensure!(
            matches!(report, Ok(Report::Appended(_))),
            "append a poison record: {report:?}"
        );
    }
    Ok(())
}

fn draw(dice: &mut Dice) -> Vec<(ChannelId, Vec<u8>)> {
    let direct = dice.index(4) == 0;
    let letter = if direct {
        ChannelLetter::Direct
    } else {
        ChannelLetter::Channel
    };
    let number = i64::try_from(dice.within(1..=CHANNELS)).unwrap_or(1);
    let channel = ChannelId::new(letter, number).expect("its number is above 0");
    let all = payloads(channel, dice);
    let count = FEWEST + dice.index(all.len() - FEWEST + 1);
    let chosen = dice.some(&all, count).into_iter();
    chosen.map(|(_, payload)| (channel, payload)).collect()
}

/// Everything that can be wrong with a record, by name.
fn payloads(channel: ChannelId, dice: &mut Dice) -> Vec<(&'static str, Vec<u8>)> {
    let id = format!(
        "{:08x}-0000-4000-8000-{:012x}",
        dice.next() >> 32,
        dice.next() >> 16
    );
    let whole = |v: &str, channel: &str, text: &str| {
        format!(
            r#"{{"kind":"message","v":{v},"channel":"{channel}","user":"U000000001","message_id":"{id}","text":{text}}}"#
        )
    };
    let c = channel.to_string();
    let depth = 10_000;
    let mut junk = vec![0; 100 * 1024];
    junk.fill_with(|| dice.next().to_le_bytes()[0]);
    let texts = [
        ("wrong version", whole("2", &c, r#""poison""#)),
        (
            "version beyond i64",
            whole("9223372036854775808", &c, r#""poison""#),
        ),
        (
            "missing field",
            format!(r#"{{"kind":"message","v":1,"channel":"{c}","user":"U000000001"}}"#),
        ),
        ("U+0000", whole("1", &c, r#""poi\u0000son""#)),
        ("lone surrogate", whole("1", &c, r#""poi\ud800son""#)),
        ("no text", whole("1", &c, r#""""#)),
        (
            "depth",
            whole("1", &c, &("[".repeat(depth) + &"]".repeat(depth))),
        ),
        (
            "channel beyond i64",
            whole("1", "CZZZZZZZZZZZZZ", r#""poison""#),
        ),
        (
            "unknown channel letter",
            whole("1", "X000000001", r#""poison""#),
        ),
        (
            "duplicate keys",
            whole("1", &c, r#""poison","text":"poison""#),
        ),
        (
            "unknown kind",
            whole("1", &c, r#""poison""#).replacen("message", "massage", 1),
        ),
        (
            "cut off",
            whole("1", &c, r#""poison""#)
                .trim_end_matches('}')
                .to_owned(),
        ),
    ];
    let mut all = vec![("empty", Vec::new()), ("junk", junk)];
    all.extend(texts.map(|(name, text)| (name, text.into_bytes())));
    all
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::Record;

    use super::*;

    #[test]
    fn every_poison_is_one_and_nothing_else_is_wrong_with_it() {
        let channel: ChannelId = "C000000005".parse().unwrap();
        for (name, payload) in payloads(channel, &mut Dice::new(7, 7)) {
            assert!(Record::decode(&payload).is_err(), "{name} can be read");
        }
        let all = payloads(channel, &mut Dice::new(7, 7));
        let text = |name: &str| {
            let found = all.iter().find(|(known, _)| *known == name).unwrap();
            String::from_utf8(found.1.clone()).unwrap()
        };
        // The same record without the one mistake.
        for mended in [
            text("wrong version").replace("\"v\":2", "\"v\":1"),
            text("U+0000").replace("\\u0000", ""),
            text("duplicate keys").replacen(",\"text\":\"poison\"", "", 1),
            text("unknown kind").replace("massage", "message"),
            text("cut off") + "}",
        ] {
            Record::decode(mended.as_bytes()).unwrap();
        }
    }

    #[test]
    fn draws_are_few_or_many_and_repeat() {
        let draws: Vec<_> = (0..200).map(|seed| draw(&mut Dice::new(seed, 0))).collect();
        assert!(draws.iter().all(|draw| draw.len() >= FEWEST));
        assert!(draws.iter().any(|draw| draw.len() > 10));
        assert!(
            draws
                .iter()
                .any(|draw| draw[0].0.letter == ChannelLetter::Direct)
        );
        assert_eq!(draw(&mut Dice::new(9, 0)), draws[9]);
    }
}
