//! `report.md`: the verdict first, readable in a minute.

use std::fmt::Write as _;

use crate::{
    assertions,
    escape::cell,
    measures::FaultMeasure,
    report::{Report, Target},
    units::{count, kind, moment, percent, time, time_or_dash},
    words::{outage, recovery, seen},
};

/// Longer lists are in `report.json`.
const VIOLATIONS_SHOWN: usize = 40;

pub(crate) fn page(report: &Report) -> String {
    let mut page = Page(String::new());
    page.head(report);
    page.verdict(report);
    page.violations(report);
    page.recovery(report);
    page.availability(report);
    page.kinds(report);
    page.vacuous(report);
    page.counts(report);
    page.again(report);
    page.faults(report);
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.line(format!("| {} |", cells.join(" | ")));
    }

    fn table(&mut self, header: &str) {
        let columns = header.split('|').map(|column| {
            // `>` in front of a column's name: figures, on the right.
            if column.trim_start().starts_with('>') {
                "---:"
            } else {
                "---"
            }
        });
        let rule: Vec<&str> = columns.collect();
        let rule = format!("|{}|", rule.join("|"));
        self.line("");
        self.line(format!("| {} |", header.replace('>', "")));
        self.line(rule);
    }

    fn heading(&mut self, text: &str) {
        self.line("");
        self.line(format!("## {text}"));
    }

    fn head(&mut self, report: &Report) {
        let run = &report.run;
        let measures = &report.measures;
        let mutant = match &run.mutant {
            Some(mutant) => format!(", with the planted bug {}", cell(mutant)),
            None => String::new(),
        };
        self.line(format!(
            "# Torture {}, seed {}{mutant}: {}",
            cell(&run.profile),
            run.seed,
            report.headline()
        ));
        self.line("");
        for error in &run.errors {
            self.line(format!("- **The suite failed**: {}", cell(error)));
        }
        let noticed = report.bound.trials;
        let faults = measures.faults.len() as u64;
        self.line(format!(
            "{} faults of {} kinds, {noticed} noticed, {} vacuous; {} messages in {} attempts; \
             {} receipts; {}.",
            count(faults),
            measures.kinds.len(),
            faults - noticed,
            count(measures.sends.messages),
            count(measures.sends.attempts),
            count(report.lines.get("given").copied().unwrap_or(0)),
            time(run.took_ms * 1000),
        ));
        self.line("");
        self.line(report.bound.sentence() + &report.silent());
    }

    fn verdict(&mut self, report: &Report) {
        self.heading("Verdict");
        self.table("Assertion | Name | > Held against | > Broken");
        for (assertion, name) in assertions::ALL {
            let checked = report.verdict.checked.get(&assertion).copied().unwrap_or(0);
            let broken = report.verdict.broken.get(&assertion).copied().unwrap_or(0);
            self.row([
                format!("{assertion:?}"),
                name.into(),
                if checked == 0 {
                    "nothing".into()
                } else {
                    count(checked)
                },
                if broken == 0 {
                    "0".into()
                } else {
                    format!("**{}**", count(broken))
                },
            ]);
        }
    }

    fn violations(&mut self, report: &Report) {
        let violations = &report.verdict.violations;
        if violations.is_empty() {
            return;
        }
        self.heading("Violations");
        self.table("When | Assertion | Name | What");
        for violation in violations.iter().take(VIOLATIONS_SHOWN) {
            self.row([
                violation.at_us.map_or("–".into(), moment),
                format!("{:?}", violation.assertion),
                cell(&violation.name),
                cell(&violation.message),
            ]);
        }
        if violations.len() > VIOLATIONS_SHOWN {
            self.line("");
            self.line(format!(
                "The first {VIOLATIONS_SHOWN} of {}; more in verdict.json.",
                count(report.bound.violations)
            ));
        }
    }

    fn recovery(&mut self, report: &Report) {
        self.heading("Recovery");
        self.line("");
        self.line(format!(
            "Counted from the moment when all faults of a cluster are healed, one value a fault \
             that somebody noticed; overlapping faults form a cluster ({} here).",
            report.measures.clusters.len()
        ));
        self.table("Figure | > Faults | > p50 | > p99 | > max | Target | ");
        for target in &report.targets {
            self.row([
                target.name.clone(),
                match target.never {
                    0 => count(target.times.n),
                    never => format!("{} + **{never} never**", target.times.n),
                },
                time_or_dash(target.times.p50_us),
                time_or_dash(target.times.p99_us),
                time_or_dash(target.times.max_us),
                asked(target),
                match target.met {
                    Some(true) => "met".into(),
                    Some(false) => "**missed**".into(),
                    None => String::new(),
                },
            ]);
        }
        if report.measures.recovery.consumer_lag.n == 0 {
            self.line("");
            self.line("The consumers' lag was not sampled; ordered joins stand for it.");
        }
    }

    fn availability(&mut self, report: &Report) {
        let sends = &report.measures.sends;
        let latency = &report.measures.latency;
        self.heading("Availability and latency");
        self.table("Attempts whose first answer within 1 s is `ok` | > Attempts | > Share");
        for (name, availability) in [
            ("in calm", sends.calm),
            ("while no fault was on", sends.between_faults),
            ("while a fault was on", sends.under_fault),
            ("the whole run", sends.whole),
        ] {
            let share = percent(availability.share());
            self.row([name.into(), count(availability.attempts), share]);
        }
        self.line("");
        self.line(format!(
            "Longest time without any `ok` while sends were tried: {}.",
            time(sends.longest_outage_us)
        ));
        self.table("Live latency | > Receipts | > p50 | > p99 | > max");
        for (name, times) in [
            ("calm, plain joins, from the send", latency.calm_plain),
            (
                "calm, plain joins, from the `ok`",
                latency.calm_plain_from_ok,
            ),
            ("calm, ordered joins, from the send", latency.calm_ordered),
            (
                "calm, ordered joins, from the `ok`",
                latency.calm_ordered_from_ok,
            ),
            ("whole run, plain joins, from the send", latency.plain),
            (
                "whole run, plain joins, from the `ok`",
                latency.plain_from_ok,
            ),
            ("whole run, ordered joins, from the send", latency.ordered),
        ] {
            self.row([
                name.into(),
                count(times.n),
                time_or_dash(times.p50_us),
                time_or_dash(times.p99_us),
                time_or_dash(times.max_us),
            ]);
        }
    }

    fn kinds(&mut self, report: &Report) {
        self.heading("Faults by kind");
        self.line("");
        self.line(
            "Detected: the first effect on any client, or repair, after the start. Send outage: the \
             longest time without any `ok` that overlaps the fault. Where faults overlap, each of \
             them is given both; `alone` is of outages that no other fault overlaps.",
        );
        self.table(
            "Kind | > Injected | > Vacuous | > Detected p50 | > max | > Send outage p50 | > max \
             | > max alone | > Recovery p50 | > max",
        );
        for (name, of_kind) in &report.measures.kinds {
            let recovered = match of_kind.not_recovered {
                0 => time_or_dash(of_kind.recovery.max_us),
                never => format!("**{never} never**"),
            };
            self.row([
                kind(*name),
                count(of_kind.faults),
                count(of_kind.vacuous),
                time_or_dash(of_kind.detect.p50_us),
                time_or_dash(of_kind.detect.max_us),
                time_or_dash(of_kind.outage.p50_us),
                time_or_dash(of_kind.outage.max_us),
                time_or_dash(of_kind.outage_alone.max_us),
                time_or_dash(of_kind.recovery.p50_us),
                recovered,
            ]);
        }
    }

    fn vacuous(&mut self, report: &Report) {
        let vacuous: Vec<&FaultMeasure> = report
            .measures
            .faults
            .iter()
            .filter(|fault| fault.vacuous())
            .collect();
        if vacuous.is_empty() && report.run.left_out.is_empty() {
            return;
        }
        self.heading("What does not count");
        self.line("");
        for fault in vacuous {
            self.line(format!(
                "- Vacuous, nobody noticed it: {} {} on {} at {} for {}. Expected: {}",
                fault.number,
                kind(fault.kind),
                cell(&fault.target),
                moment(fault.start_us),
                time(fault.end_us - fault.start_us),
                cell(&fault.hypothesis),
            ));
        }
        for (name, reason) in &report.run.left_out {
            self.line(format!("- Left out: {}: {}", kind(*name), cell(reason)));
        }
    }

    fn counts(&mut self, report: &Report) {
        self.heading("Counts");
        let swapped = &report.swapped;
        if let (Some(receipts), Some(messages)) =
            (swapped.per_million_receipts, swapped.per_million_messages)
        {
            self.line("");
            self.line(format!(
                "Swapped on the wire of plain joins (P4): {} of {} receipts, {receipts:.1} per \
                 million receipts, {messages:.1} per million messages.",
                count(swapped.swapped),
                count(swapped.plain_receipts),
            ));
        }
        self.table("What | > Count");
        let sends = &report.measures.sends;
        let repairs = &report.measures.repairs;
        for (name, n) in [
            ("sends: ok", sends.ok),
            ("sends: refused, the sender may not", sends.refused),
            ("sends: rejected", sends.rejected),
            ("sends: unknown", sends.unknown),
            ("sends: unanswered", sends.unanswered),
            ("messages given up after an unknown", sends.abandoned),
            ("reconnects", repairs.reconnects),
        ] {
            self.row([name.into(), count(n)]);
        }
        for (code, n) in &repairs.closes {
            self.row([format!("closed with {}", cell(code)), count(*n)]);
        }
        for (name, n) in &repairs.feed_events {
            self.row([format!("feeds: {}", cell(name)), count(*n)]);
        }
        if !repairs.sampled {
            self.row(["feeds".into(), "not sampled".into()]);
        }
        for (name, n) in &report.verdict.counts {
            self.row([format!("checker: {}", cell(name)), count(*n)]);
        }
    }

    fn again(&mut self, report: &Report) {
        let run = &report.run;
        self.heading("Again");
        self.line("");
        self.line("```sh");
        // A fence ends at a line of backticks: the command stays one line.
        self.line(run.command.replace(['\n', '\r'], " "));
        self.line("```");
        self.line("");
        self.line(format!(
            "`./dev torture replay DIR` runs the schedule of this directory again, `./dev torture \
             check DIR` judges its history again. Commit {}; {}.",
            cell(&run.commit),
            cell(&run.machine)
        ));
        if !run.settings.is_empty() {
            let mut settings = String::new();
            for (name, value) in &run.settings {
                let comma = if settings.is_empty() { "" } else { ", " };
                write!(settings, "{comma}{} {}", cell(name), cell(value))
                    .expect("a string takes everything");
            }
            self.line("");
            self.line(format!("Settings: {settings}."));
        }
    }

    fn faults(&mut self, report: &Report) {
        self.heading("All faults");
        self.table(
            "No. | Kind | Target | > Start | > Lasted | Seen | > Detected | > Send outage \
             | > Recovery",
        );
        let measures = &report.measures;
        for fault in &measures.faults {
            self.row([
                fault.number.to_string(),
                kind(fault.kind),
                cell(&fault.target),
                moment(fault.start_us),
                time(fault.end_us - fault.start_us),
                cell(&seen(fault)),
                time_or_dash(fault.detect_us),
                outage(fault),
                recovery(report, fault),
            ]);
        }
    }
}

fn asked(target: &Target) -> String {
    let parts = [
        ("p50", target.p50_below_us),
        ("p99", target.p99_below_us),
        ("max", target.max_below_us),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, bound)| bound.map(|bound| format!("{name} < {}", time(bound))))
        .collect();
    parts.join(", ")
}
