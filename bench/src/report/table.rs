//! The table in Markdown, and a line of it for the screen.

use crate::pair::Spread;
use crate::results::{Part, Results, Row, Target, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Above this share of a core, others' work may have moved the figures.
const STRANGERS: f64 = 0.15;

/// Everything as a Markdown table, with what is needed to judge it.
#[must_use]
pub fn table(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "Measured on {}: {} cores of {}, {} GiB, Linux {}, {}.\n\n",
        results.date,
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.rustc
    );
    text +=
        "| # | workload | measured | ours | beside | theirs | ratio (least–most) | target | |\n";
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for row in results.rows() {
        text += &markdown(row);
    }
    text += &counts(results);
    text += &further(results);
    for part in &results.parts {
        text += &remark(part);
    }
    text
}

/// A row for the screen.
#[must_use]
pub fn line(row: &Row) -> String {
    let ratio = row.ratio.map_or(String::new(), |ratio| {
        format!(" {} = {},", row.ratio_is, spread(ratio))
    });
    let with = if row.paired_with.is_empty() {
        String::new()
    } else {
        format!(" beside {}", row.paired_with)
    };
    let ours = spread(row.ours);
    format!(
        "{} {}{with}: {} {ours};{ratio} {}{}",
        row.id,
        row.subject,
        row.metric,
        target(row.target),
        verdict(&row.verdict)
    )
}

fn markdown(row: &Row) -> String {
    let measured = !matches!(row.verdict, Verdict::NotMeasured(_) | Verdict::Failed(_));
    let when = |text: String| if measured { text } else { String::new() };
    let beside = match row.version.as_str() {
        "" => row.paired_with.clone(),
        version => version.to_owned(),
    };
    let ratio = row.ratio.map_or(String::new(), |ratio| {
        format!("{} {}", row.ratio_is, spread(ratio))
    });
    let cells = [
        row.id.clone(),
        row.workload.clone(),
        format!("{}: {}", row.subject, row.metric),
        when(number(row.ours.median)),
        beside,
        when(
            row.theirs
                .map_or(String::new(), |theirs| number(theirs.median)),
        ),
        when(ratio),
        target(row.target),
        verdict(&row.verdict),
    ];
    // A bar would end the cell.
    let cells = cells.map(|cell| cell.replace('|', "/").replace('\n', " "));
    format!("| {} |\n", cells.join(" | "))
}

/// What was counted to the unit, over everything.
fn counts(results: &Results) -> String {
    // Rows of one workload that differ in what they are held against have ours in common.
    let sum = |name: &str| -> u64 {
        let rows = results.rows();
        let counts = rows.filter_map(|row| {
            let count = *row.counts.get(name)?;
            Some(((&row.id, &row.workload, &row.metric), count))
        });
        let by_workload: BTreeMap<_, u64> = counts.collect();
        by_workload.values().sum()
    };
    format!(
        "\nOf {} deliveries that were owed in these runs {} were lost, {} doubled and {} out of \
         order; a run with one is no figure but a failure.\n",
        sum("delivered"),
        sum("lost"),
        sum("duplicated"),
        sum("out_of_order")
    )
}

/// Figures beside the ratios.
fn further(results: &Results) -> String {
    let mut text = String::new();
    for row in results.rows() {
        let user = row
            .user_ratio
            .map(|ratio| ("user CPU alone, theirs / ours", ratio.median));
        let figures = row
            .figures
            .iter()
            .map(|(name, value)| (name.as_str(), *value));
        let exact = ["store_reads", "transactions", "rows"];
        let exact = exact
            .iter()
            .filter_map(|name| Some((*name, *row.counts.get(*name)? as f64)));
        let all: Vec<String> = user
            .into_iter()
            .chain(figures)
            .chain(exact)
            .map(|(name, value)| format!("{} {}", name.replace('_', " "), number(value)))
            .collect();
        if !all.is_empty() {
            let with = if row.paired_with.is_empty() {
                String::new()
            } else {
                format!(" beside {}", row.paired_with)
            };
            // Writing to a string cannot fail.
            writeln!(
                text,
                "- {}{with}, {}: {}",
                row.id,
                row.workload,
                all.join("; ")
            )
            .expect("a string grows");
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\nFurther figures:\n\n{text}")
}

/// Where something else used the machine.
fn remark(part: &Part) -> String {
    if part.strangers < STRANGERS {
        return String::new();
    }
    format!(
        "\n{} was measured while other work used {:.2} cores: a trial, no figure.\n",
        part.id, part.strangers
    )
}

fn spread(spread: Spread) -> String {
    if spread.min == spread.max {
        return number(spread.median);
    }
    format!(
        "{} ({}–{})",
        number(spread.median),
        number(spread.min),
        number(spread.max)
    )
}

fn target(target: Option<Target>) -> String {
    match target {
        None => String::new(),
        Some(Target::AtLeast(least)) => format!("≥ {}", number(least)),
        Some(Target::AtMost(most)) => format!("≤ {}", number(most)),
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Met => " met".to_owned(),
        Verdict::Missed => " **missed**".to_owned(),
        Verdict::Reported => String::new(),
        Verdict::NotMeasured(why) => format!(" not measured: {why}"),
        Verdict::Failed(why) => format!(" **failed**: {why}"),
    }
}

/// Three significant digits; thousands with commas.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        let digits = format!("{size:.0}");
        let mut text = String::new();
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    match size {
        s if s >= 100.0 => format!("{value:.0}"),
        s if s >= 10.0 => format!("{value:.1}"),
        s if s >= 0.095 || s == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn numbers_have_three_digits() {
        let all = [0.0, 0.00123, 0.5, 1.234, 12.34, 123.4, 1_234.0, 1_234_567.0];
        let text = all.map(number).join(" ");
        assert_eq!(text, "0.00 0.0012 0.50 1.23 12.3 123 1,234 1,234,567");
    }

    #[test]
    fn rows_say_what_was_missed_and_what_is_not_there() {
        let row = Row::new("B1", "a | b", "CPU", "edge");
        let missed = row
            .clone()
            .against("x", &[3.0], &[1.0])
            .target(Target::AtMost(2.0))
            .count("delivered", 7);
        let absent = row.without("NATS", Verdict::NotMeasured("not installed".to_owned()));
        let results = Results {
            date: "2026-11-21".to_owned(),
            mode: "quick".to_owned(),
            machine: Machine::default(),
            parts: vec![Part {
                id: "B1".to_owned(),
                rows: vec![missed, absent],
                mode: "quick".to_owned(),
                seconds: 1.0,
                strangers: 0.5,
                commit: "c".to_owned(),
            }],
        };
        let text = table(&results);
        assert!(
            text.contains("| a / b |") && text.contains("**missed**"),
            "{text}"
        );
        assert!(text.contains("not measured: not installed"), "{text}");
        assert!(
            text.contains("Of 7 deliveries") && text.contains("0.50 cores"),
            "{text}"
        );
    }
}
