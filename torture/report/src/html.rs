//! `timeline.html`: one file, nothing from elsewhere. Every text of the run is escaped here or
//! set as text by the script.

use crate::{
    assertions, chart,
    escape::{markup, script_json},
    measures::{Repairs, Second},
    report::Report,
    units::{count, kind, moment, percent, time, time_or_dash},
    words::{outage, recovery, seen},
};

pub(crate) fn page(report: &Report) -> String {
    let run = &report.run;
    let title = format!("Torture {}, seed {}", run.profile, run.seed);
    let held = if report.holds && report.valid {
        "held"
    } else {
        "not"
    };
    let mutant = run.mutant.as_ref().map_or(String::new(), |mutant| {
        format!("With the planted bug {}. ", markup(mutant))
    });
    let chart = chart::draw(report);
    let (gutter_width, plot_width) = (chart::GUTTER, chart::PLOT);
    let height = chart.height;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>{chart_style}\n{page_style}</style>\n</head>\n<body>\n\
         <h1>{title}: <span class=\"{held}\">{headline}</span></h1>\n{errors}\
         <p>{mutant}{bound}</p>\n{cards}\n\
         <div class=\"scroll\">\n\
         <svg class=\"chart gutter\" width=\"{gutter_width}\" height=\"{height}\" \
         viewBox=\"0 0 {gutter_width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{gutter}</svg>\n\
         <svg class=\"chart plot\" width=\"{plot_width}\" height=\"{height}\" \
         data-end-us=\"{end_us}\">{plot}\
         <rect id=\"span\" x=\"0\" y=\"0\" width=\"0\" height=\"{height}\"/>\
         <line id=\"cross\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"{height}\" visibility=\"hidden\"/>\
         </svg>\n</div>\n\
         <p>Point at a fault, a mark or a second, or reach them with the Tab key. Bars: from the \
         start of a fault to its end; the thin tail: until everything was back. Grey: some fault \
         is on.</p>\n\
         {violations}{targets}{verdict}{faults}{again}\
         <div id=\"tip\" role=\"status\" hidden></div>\n\
         <script type=\"application/json\" id=\"seconds\">{seconds}</script>\n\
         <script>{script}</script>\n</body>\n</html>\n",
        title = markup(&title),
        chart_style = chart::STYLE,
        page_style = include_str!("html/page.css"),
        headline = markup(&report.headline()),
        errors = errors(report),
        bound = markup(&(report.bound.sentence() + &report.silent())),
        cards = cards(report),
        gutter = chart.gutter,
        plot = chart.plot,
        end_us = report.measures.end_us.max(1_000_000),
        violations = violations(report),
        targets = targets(report),
        verdict = verdict(report),
        faults = faults(report),
        again = again(report),
        seconds = seconds(&report.measures.seconds),
        script = include_str!("html/page.js"),
    )
}

fn errors(report: &Report) -> String {
    let errors = report.run.errors.iter();
    errors
        .map(|error| format!("<p class=\"bad\">The suite failed: {}</p>\n", markup(error)))
        .collect()
}

fn cards(report: &Report) -> String {
    let measures = &report.measures;
    let sends = &measures.sends;
    let receipts = report.lines.get("given").copied().unwrap_or(0);
    let pair = |times: &crate::Quantiles| {
        format!(
            "{} / {}",
            time_or_dash(times.p50_us),
            time_or_dash(times.p99_us)
        )
    };
    let cards = [
        ("violations", count(report.bound.violations)),
        (
            "faults noticed, of all",
            format!("{} / {}", report.bound.trials, measures.faults.len()),
        ),
        (
            "recovery after heal, p50 / p99",
            pair(&measures.recovery.all),
        ),
        (
            "sends in time, calm / under fault",
            format!(
                "{} / {}",
                percent(sends.calm.share()),
                percent(sends.under_fault.share())
            ),
        ),
        (
            "send to device in calm, p50 / p99",
            pair(&measures.latency.calm_plain),
        ),
        ("messages", count(sends.messages)),
        ("receipts", count(receipts)),
        ("the run took", time(report.run.took_ms * 1000)),
    ];
    let cards: String = cards
        .into_iter()
        .map(|(name, figure)| {
            let bad = name == "violations" && report.bound.violations > 0;
            let class = if bad { " class=\"bad\"" } else { "" };
            format!(
                "<div class=\"card\"><b{class}>{}</b><span>{}</span></div>",
                markup(&figure),
                markup(name)
            )
        })
        .collect();
    format!("<div class=\"cards\">{cards}</div>")
}

fn violations(report: &Report) -> String {
    let shown = &report.verdict.violations;
    if shown.is_empty() {
        return String::new();
    }
    let rows = shown.iter().map(|violation| {
        vec![
            Cell::Figure(violation.at_us.map_or("–".into(), moment)),
            Cell::Bad(format!("{:?}", violation.assertion)),
            Cell::Word(violation.name.clone()),
            Cell::Text(violation.message.clone()),
        ]
    });
    let table = table(&[">When", "Assertion", "Name", "What"], rows);
    format!(
        "<h2>Violations: {} of {} shown</h2>\n{table}",
        count(shown.len() as u64),
        count(report.bound.violations)
    )
}

fn targets(report: &Report) -> String {
    let rows = report.targets.iter().map(|target| {
        let below = [
            ("p50", target.p50_below_us),
            ("p99", target.p99_below_us),
            ("max", target.max_below_us),
        ];
        let below: Vec<String> = below
            .into_iter()
            .filter_map(|(name, bound)| bound.map(|us| format!("{name} < {}", time(us))))
            .collect();
        let never = match target.never {
            0 => count(target.times.n),
            never => format!("{} + {never} never", target.times.n),
        };
        vec![
            Cell::Word(target.name.clone()),
            Cell::Figure(never),
            Cell::Figure(time_or_dash(target.times.p50_us)),
            Cell::Figure(time_or_dash(target.times.p99_us)),
            Cell::Figure(time_or_dash(target.times.max_us)),
            Cell::Word(below.join(", ")),
            match target.met {
                Some(true) => Cell::Good("met".into()),
                Some(false) => Cell::Bad("missed".into()),
                None => Cell::Word(String::new()),
            },
        ]
    });
    let header = ["Recovery", ">Faults", ">p50", ">p99", ">max", "Target", ""];
    format!("<h2>Recovery</h2>\n{}", table(&header, rows))
}

fn verdict(report: &Report) -> String {
    let rows = assertions::ALL.into_iter().map(|(assertion, name)| {
        let checked = report.verdict.checked.get(&assertion).copied().unwrap_or(0);
        let broken = report.verdict.broken.get(&assertion).copied().unwrap_or(0);
        vec![
            Cell::Word(format!("{assertion:?}")),
            Cell::Word(name.into()),
            Cell::Figure(if checked == 0 {
                "nothing".into()
            } else {
                count(checked)
            }),
            if broken == 0 {
                Cell::Figure("0".into())
            } else {
                Cell::Bad(count(broken))
            },
        ]
    });
    let header = ["Assertion", "Name", ">Held against", ">Broken"];
    format!("<h2>Verdict</h2>\n{}", table(&header, rows))
}

fn faults(report: &Report) -> String {
    let faults = &report.measures.faults;
    let rows = faults.iter().map(|fault| {
        vec![
            Cell::Figure(fault.number.to_string()),
            Cell::Word(kind(fault.kind)),
            Cell::Word(fault.target.clone()),
            Cell::Figure(moment(fault.start_us)),
            Cell::Figure(time(fault.end_us - fault.start_us)),
            Cell::Text(fault.hypothesis.clone()),
            Cell::Text(seen(fault)),
            Cell::Figure(time_or_dash(fault.detect_us)),
            Cell::Figure(outage(fault)),
            Cell::Figure(recovery(report, fault)),
        ]
    });
    let header = [
        ">No.",
        "Kind",
        "Target",
        ">Start",
        ">Lasted",
        "Expected",
        "Seen",
        ">Detected",
        ">Outage",
        ">Recovery",
    ];
    format!(
        "<details><summary>All {} faults</summary>\n{}</details>\n",
        faults.len(),
        table(&header, rows)
    )
}

fn again(report: &Report) -> String {
    let run = &report.run;
    format!(
        "<h2>Again</h2>\n<p><code>{}</code></p>\n<p>Commit {}. {}.</p>\n",
        markup(&run.command),
        markup(&run.commit),
        markup(&run.machine)
    )
}

/// What the script shows of each second: an array a second, as short as it can be.
fn seconds(seconds: &[Second]) -> String {
    let rows: Vec<_> = seconds
        .iter()
        .map(|second| {
            let repairs: u64 = Repairs::KINDS
                .iter()
                .filter_map(|kind| second.feed_events.get(*kind))
                .sum();
            (
                second.attempts,
                second.in_time,
                second.plain.p50_us,
                second.plain.p99_us,
                second.ordered.p99_us,
                repairs,
                second.reconnects,
            )
        })
        .collect();
    script_json(&serde_json::to_string(&rows).expect("figures are always JSON"))
}

/// A cell of a table.
enum Cell {
    Word(String),
    Text(String),
    Figure(String),
    Good(String),
    Bad(String),
}

/// A table; `>` in front of a column's name puts it on the right.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> String {
    let mut out = String::from("<div class=\"wide\"><table><thead><tr>");
    for name in header {
        let (class, name) = match name.strip_prefix('>') {
            Some(name) => (" class=\"n\"", name),
            None => ("", *name),
        };
        out.push_str(&format!("<th{class}>{}</th>", markup(name)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let (class, text) = match cell {
                Cell::Word(text) => ("", text),
                Cell::Text(text) => (" class=\"text\"", text),
                Cell::Figure(text) => (" class=\"n\"", text),
                Cell::Good(text) => (" class=\"good\"", text),
                Cell::Bad(text) => (" class=\"n bad\"", text),
            };
            out.push_str(&format!("<td{class}>{}</td>", markup(&text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}
