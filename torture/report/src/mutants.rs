use crate::{escape::cell, units};

/// What became of one planted bug.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MutantOutcome {
    /// `M1`, or the name of the feed's rule that was taken out.
    pub name: String,
    /// What was planted, in a sentence.
    pub sentence: String,
    /// The assertions or tests that ought to catch it.
    pub expected: Vec<String>,
    /// Those that did; empty if nothing caught it.
    pub caught_by: Vec<String>,
    /// How many runs it took, the last one included.
    pub tries: u32,
    /// How long they took together.
    pub seconds: f64,
}

/// The planted bugs as a Markdown table, with their sum in a line above.
#[must_use]
pub fn mutants_table(outcomes: &[MutantOutcome]) -> String {
    let caught = outcomes.iter().filter(|o| !o.caught_by.is_empty()).count();
    let expectedly = outcomes.iter().filter(|o| o.as_expected()).count();
    let mut text = format!(
        "{caught} of {} planted bugs caught, {expectedly} of them by what was expected to.\n\n\
         | Bug | What was planted | Expected | Caught by | Runs | Time |\n\
         |---|---|---|---|---:|---:|\n",
        outcomes.len()
    );
    for outcome in outcomes {
        let caught_by = if outcome.caught_by.is_empty() {
            "**missed**".into()
        } else {
            cell(&outcome.caught_by.join(", "))
        };
        text.push_str(&format!(
            "| {} | {} | {} | {caught_by} | {} | {} |\n",
            cell(&outcome.name),
            cell(&outcome.sentence),
            cell(&outcome.expected.join(", ")),
            outcome.tries,
            units::time((outcome.seconds.max(0.0) * 1e6) as u64),
        ));
    }
    text
}

impl MutantOutcome {
    fn as_expected(&self) -> bool {
        self.caught_by.iter().any(|by| self.expected.contains(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_one_is_said_so() {
        let outcome = |name: &str, caught: &[&str]| MutantOutcome {
            name: name.into(),
            sentence: "a | b".into(),
            expected: vec!["A1".into()],
            caught_by: caught.iter().map(|by| (*by).to_owned()).collect(),
            tries: 2,
            seconds: 93.5,
        };
        let table = mutants_table(&[
            outcome("M1", &["A1", "A11"]),
            outcome("M2", &["A6"]),
            outcome("M3", &[]),
        ]);
        assert_eq!(
            table,
            "2 of 3 planted bugs caught, 1 of them by what was expected to.\n\n\
             | Bug | What was planted | Expected | Caught by | Runs | Time |\n\
             |---|---|---|---|---:|---:|\n\
             | M1 | a \\| b | A1 | A1, A11 | 2 | 1 min 33 s |\n\
             | M2 | a \\| b | A1 | A6 | 2 | 1 min 33 s |\n\
             | M3 | a \\| b | A1 | **missed** | 2 | 1 min 33 s |\n"
        );
    }
}
