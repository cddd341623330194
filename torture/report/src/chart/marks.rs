use super::{Drawing, PLOT, svg::Anchor};
use crate::units::{count, moment};

const ROW: f64 = 15.0;
/// Marks beyond this would be a red wall; the verdict has them all.
const MOST: usize = 150;
/// Rows of texts; where all are taken a mark stands without its text.
const ROWS: usize = 4;

impl Drawing<'_> {
    /// What was broken, as red marks with their names.
    pub(super) fn marks(&mut self) {
        self.band("Violations", "");
        let report = self.report;
        let total = report.bound.violations;
        let mut timed: Vec<_> = report
            .verdict
            .violations
            .iter()
            .filter_map(|violation| violation.at_us.map(|at_us| (at_us, violation)))
            .collect();
        timed.sort_by_key(|(at_us, _)| *at_us);
        if timed.is_empty() {
            let (class, text) = if total == 0 {
                ("fine", "none".to_owned())
            } else {
                (
                    "broken-text",
                    format!("{} without a moment, see below", count(total)),
                )
            };
            self.plot
                .text(class, 4.0, self.y + 11.0, Anchor::Start, &text);
            self.y += 22.0;
            return;
        }
        let mut free = [0.0_f64; ROWS];
        let mut deepest = 0;
        for (at_us, violation) in timed.iter().take(MOST) {
            let x = self.scale.x(*at_us);
            let label = format!("{:?} {}", violation.assertion, violation.name);
            let width = label.chars().count() as f64 * 6.6 + 16.0;
            // Near the right edge the text stands on the other side.
            let left = x + width > PLOT;
            let start = if left { x - width } else { x - 5.0 };
            let row = free.iter().position(|free| *free <= start);
            let at = row.unwrap_or(0);
            deepest = deepest.max(at);
            let y = self.y + at as f64 * ROW;
            let tip = format!("{label}\n{}\n{}", moment(*at_us), violation.message);
            self.plot.open_tip("violation", [x - 1.0, x + 1.0], &tip);
            self.plot.path(
                "broken",
                &format!("M{:.1} {:.1}h9l-4.5 8z", x - 4.5, y + 3.0),
            );
            if row.is_some() {
                let (x, anchor) = if left {
                    (x - 8.0, Anchor::End)
                } else {
                    (x + 8.0, Anchor::Start)
                };
                self.plot.text("broken-text", x, y + 11.0, anchor, &label);
                free[at] = if left { x + 6.0 } else { start + width };
            }
            self.plot.close();
        }
        if total > MOST.min(timed.len()) as u64 {
            let text = format!("{} of {}", MOST.min(timed.len()), count(total));
            self.gutter
                .text("about", 84.0, self.y + 11.0, Anchor::Start, &text);
        }
        self.y += (deepest + 1) as f64 * ROW + 7.0;
    }
}
