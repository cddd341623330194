//! The comparison as a page.

use std::fmt::Write;

use crate::{
    Comparison, Figures, Skipped, System,
    plan::{CHANNELS, EACH, LISTENERS, SERVERS, WRITERS},
    settings,
};

/// Of everything.
const NEVER: &str = "–";

/// `compare.md`
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let mut page = String::from("# The same faults, the same workload, the same checker\n\n");
    intro(&mut page, comparison);
    results(&mut page, comparison);
    after_faults(&mut page, comparison);
    page.push_str(READING);
    systems(&mut page, comparison);
    page
}

fn intro(page: &mut String, comparison: &Comparison) {
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let when = if comparison.at_the_same_time {
        "The systems ran at the same time on one machine, each with its own servers."
    } else {
        "The systems ran one after the other."
    };
    say(
        page,
        &format!(
            "{} run(s), seeds {}. In each: {} messages of {WRITERS} writers in {CHANNELS} channels \
             over {} s, {LISTENERS} devices that listen to {EACH} channels each, {SERVERS} servers \
             behind HAProxy. In each, at the same times for all: 3 servers killed and started again, \
             2 times Redis' connections to the servers killed, Redis killed and started again, 4 \
             listeners' connections reset, 1 listener's connection silenced. {when}",
            comparison.seeds.len(),
            seeds.join(", "),
            comparison.messages,
            comparison.seconds,
        ),
    );
}

fn results(page: &mut String, comparison: &Comparison) {
    page.push_str(
        "| system | acknowledged | owed deliveries | lost | of these unnoticed | shown twice | \
         out of order | phantom | sends without an answer | acknowledged, not in the store | \
         shown, not in the store | p50 / p99 to the screen |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, f) in &comparison.sums {
        let cells = [
            name.clone(),
            f.acked.to_string(),
            f.owed.to_string(),
            share(f.lost(), f.owed),
            f.lost_unnoticed.to_string(),
            f.doubled.to_string(),
            order(f),
            f.phantom.to_string(),
            f.unanswered.to_string(),
            known(f.acked_not_stored),
            known(f.shown_not_stored),
            latency(f),
        ];
        say_row(page, &cells);
    }
    page.push('\n');
    for Skipped { system, why } in &comparison.skipped {
        say(page, &format!("{system} was skipped: {why}."));
    }
}

fn after_faults(page: &mut String, comparison: &Comparison) {
    let whole: Vec<&(String, Figures)> = comparison
        .sums
        .iter()
        .filter(|(name, _)| System::ALL.iter().any(|s| s.to_string() == *name))
        .collect();
    let mut kinds: Vec<&String> = whole
        .iter()
        .flat_map(|(_, f)| f.lost_by_fault.keys())
        .collect();
    kinds.sort();
    kinds.dedup();
    if kinds.is_empty() {
        return;
    }
    page.push_str("Lost deliveries by the last fault before the acknowledgement:\n\n");
    let mut header = vec!["system".to_owned()];
    header.extend(kinds.iter().map(|kind| (*kind).clone()));
    say_row(page, &header);
    page.push_str(&format!("|---|{}\n", "--:|".repeat(kinds.len())));
    for (name, figures) in whole {
        let mut cells = vec![name.clone()];
        let count = |kind| figures.lost_by_fault.get(kind).copied().unwrap_or(0);
        cells.extend(kinds.iter().map(|kind| count(*kind).to_string()));
        say_row(page, &cells);
    }
    page.push('\n');
}

const READING: &str = "\
## How to read it

- **owed**: an acknowledged message, times the devices that joined its channel before it was sent.
- **lost**: owed and never on the device's screen, although the device was back and joined for at \
least five seconds after the last answer. **unnoticed**: the device's connection stayed up for two \
seconds or more after the acknowledgement (for a silenced client, until it noticed), or the server \
said that everything had been caught up. The others fell into a reconnect, which an application can \
see.
- **shown twice, out of order**: as the library hands messages to the application. Out of order is \
only what one sender said after the earlier message had been acknowledged. Where messages carry a \
position, the second figure is for a list sorted by it: Hubbub's plain joins hand a message that \
had to be repaired on when it comes, and its clients sort; ordered joins wait instead.
- **phantom**: shown with another text, or though it was refused.
- **in the store**: what everybody can read later. For Hubbub: what the history API gives. For the \
seed's flow: what is in Kafka, from which its consumer would have filled its table.
- **to the screen**: from the writer's call to the listener's screen, over the whole run, outages \
included.

";

fn systems(page: &mut String, comparison: &Comparison) {
    page.push_str("## What was run\n\n");
    let ms = |d: std::time::Duration| d.as_millis();
    say(
        page,
        &format!(
            "In common: HAProxy with Hubbub's configuration, WebSocket only; a proxy of its own for \
             every client; a sign of life every {} ms, and {} ms more until a connection counts as \
             dead; clients come back after {} ms, doubled up to {} ms, with jitter; sends without \
             an answer are sent again under the same id after {} ms or at the reconnect.",
            ms(settings::HEARTBEAT),
            ms(settings::SILENCE),
            ms(settings::BACKOFF_FIRST),
            ms(settings::BACKOFF_CAP),
            ms(settings::ACK_TIMEOUT),
        ),
    );
    page.push_str(SYSTEMS);
    if !comparison.versions.is_empty() {
        let versions: Vec<String> = comparison
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        say(page, &format!("Versions: {}.", versions.join(", ")));
    }
    page.push_str(LIMITS);
}

const SYSTEMS: &str = "\
- **Hubbub**: 3 edges, 1 API server, 1 consumer, Redis without persistence, Kafka, a core and 2 \
shards of Postgres; the Rust client. Half of the listeners join plainly, half ask for strict order.
- **The seed's flow by its letter**: an edge publishes on the Redis channel, produces to Kafka \
without waiting for it, and acknowledges; edges that subscribed look up the members and write to \
their sockets. Nothing is repaired, nothing is resumed. Added, because any client would: \
reconnects, joining again, resends with the same id. Added on the servers: a message that \
Redis did not take is refused, Redis connections come back and subscribe again at once (Hubbub's \
own bus crate, which is quicker than most), and a join is answered only when the subscription is \
confirmed. The members are in memory, where the seed asks the database; the consumer is left out, \
since nobody reads its table.
- **socket.io, Redis adapter**: as the documentation recommends it: ioredis, acknowledgements with \
`retries` and `ackTimeout` on the client, rooms joined in the connection handler.
- **socket.io, Redis Streams adapter**: the same with `connectionStateRecovery`, its best case. Its \
Redis keeps an append-only file (fsync every second), so that the stream survives Redis' restart; \
and since it reads its stream over an ordinary connection, Redis kills the ordinary ones instead of \
the subscribed ones.

";

const LIMITS: &str = "\
## What this does not say

- The others are libraries and a sketch; Hubbub is a whole backend with a log and a store behind it. \
socket.io's documentation says that it delivers at most once from server to client, and shows what \
an application adds: ids in a database, the client's last offset in `auth`, and a query at every \
reconnect. That application is not part of this comparison; it would close what a reconnect loses, \
and with a unique key what a resend doubles. It would not by itself notice what a broken Redis \
connection loses while the sockets stay up.
- They are quicker: no log has to acknowledge before a message is shown, and with the pub/sub \
adapter a listener on the writer's own server does not even wait for Redis. While Redis is away \
that adapter acknowledges and goes on among the clients of one server, where the others wait.
- The servers' Kafka, Postgres and HAProxy had no faults here; the torture suite does that to Hubbub.
- A count of zero in so many deliveries bounds the rate, it does not prove that there is none.
";

fn say(page: &mut String, paragraph: &str) {
    writeln!(page, "{paragraph}\n").expect("writing to a string cannot fail");
}

fn say_row(page: &mut String, cells: &[String]) {
    writeln!(page, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
}

fn share(count: u64, of: u64) -> String {
    if count == 0 || of == 0 {
        return count.to_string();
    }
    // In hundredths of a percent.
    let share = count * 10_000 / of;
    format!("{count} ({}.{:02} %)", share / 100, share % 100)
}

fn order(figures: &Figures) -> String {
    match figures.out_of_order_by_seq {
        Some(sorted) => format!("{} / {sorted} sorted", figures.out_of_order),
        None => figures.out_of_order.to_string(),
    }
}

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| NEVER.to_owned(), |count| count.to_string())
}

fn latency(figures: &Figures) -> String {
    let quantile = |per_mille| figures.latency_ms(per_mille);
    match (quantile(500), quantile(990)) {
        (Some(half), Some(most)) => format!("{half} / {most} ms"),
        _ => NEVER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn comparison() -> Comparison {
        let ours = Figures {
            acked: 3_000,
            owed: 27_000,
            out_of_order: 2,
            out_of_order_by_seq: Some(0),
            acked_not_stored: Some(0),
            shown_not_stored: Some(0),
            latencies_us: vec![4_000, 5_000, 900_000],
            ..Figures::default()
        };
        let theirs = Figures {
            acked: 2_999,
            owed: 26_991,
            lost_unnoticed: 100,
            lost_while_away: 35,
            lost_by_fault: BTreeMap::from([("Redis killed".to_owned(), 135)]),
            ..Figures::default()
        };
        Comparison {
            messages: 3_000,
            seconds: 60,
            seeds: vec![4, 5],
            at_the_same_time: true,
            versions: BTreeMap::from([("socket.io".to_owned(), "4.8.4".to_owned())]),
            skipped: vec![Skipped {
                system: System::SeedFlow,
                why: "it is not built".to_owned(),
            }],
            sums: vec![
                (System::Hubbub.to_string(), ours),
                (System::SocketioRedis.to_string(), theirs),
            ],
            runs: Vec::new(),
        }
    }

    #[test]
    fn the_page_has_the_figures() {
        let page = markdown(&comparison());
        let ours =
            "| Hubbub | 3000 | 27000 | 0 | 0 | 0 | 2 / 0 sorted | 0 | 0 | 0 | 0 | 5 / 5 ms |";
        assert!(page.contains(ours), "{page}");
        let theirs = "| socket.io, Redis adapter | 2999 | 26991 | 135 (0.50 %) | 100 |";
        assert!(page.contains(theirs), "{page}");
        assert!(page.contains("seeds 4, 5"), "{page}");
        assert!(page.contains("the seed's flow by its letter was skipped: it is not built."));
        assert!(page.contains("Versions: socket.io 4.8.4."));
    }

    #[test]
    fn every_row_has_as_many_cells_as_its_header() {
        let page = markdown(&comparison());
        let mut width = None;
        let mut rows = 0;
        for line in page.lines() {
            let cells = line.starts_with('|').then(|| line.matches('|').count());
            if let (Some(cells), Some(width)) = (cells, width) {
                assert_eq!(cells, width, "{line}");
                rows += 1;
            }
            width = cells;
        }
        // Two tables: the rules below their headers, and two rows of each.
        assert_eq!(rows, 6);
    }
}
