//! Whether the suite notices mistakes: each is planted alone, and runs go on until one is caught.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use hubbub_service::mutant::{ALL, Mutant};
use hubbub_torture_report::{MutantOutcome, mutants_table};
use tokio::time::Instant;

use crate::{
    cli::Programs,
    files::{RunDir, write_json},
    profile::Profile,
    progress::spelled,
    run::{Order, run},
};

/// What `./dev torture mutants` takes.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// These only, by name; all without one.
    names: Vec<String>,
    /// How large each run is.
    #[arg(long, default_value = "t0")]
    profile: String,
    /// Runs of one mistake before it counts as missed.
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// The seed of each first run; the next one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the runs here.
    #[arg(long, default_value = "target/torture/mutants")]
    dir: PathBuf,
    /// Keep the histories, too: about 100 MB each.
    #[arg(long)]
    keep: bool,
    /// Say what each run does.
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    programs: Programs,
}

/// Plants, runs and says what was caught by what; true if all were.
///
/// # Errors
/// When a name is none, or a directory cannot be written.
pub async fn run_all(args: MutantsArgs) -> Result<bool> {
    let chosen = choose(&args.names)?;
    let mut plan = args.programs.plan()?;
    let mut outcomes = Vec::new();
    for mutant in chosen {
        println!("{}: {}", mutant.name(), mutant.sentence());
        let began = Instant::now();
        let (mut caught, mut broken, mut tries) = (false, Vec::new(), 0);
        while !caught && tries < args.tries {
            plan.mutant = Some(mutant.name().to_owned());
            let mut profile = Profile::named(&args.profile)?;
            // No mistake of the list is about what is left behind (A13).
            profile.settle = Duration::ZERO;
            let order = Order {
                profile,
                seed: args.seed + u64::from(tries),
                faults: None,
                plan: plan.clone(),
                silent: !args.verbose,
            };
            tries += 1;
            let path = args.dir.join(mutant.name()).join(format!("try-{tries}"));
            if path.exists() {
                std::fs::remove_dir_all(&path).context("remove an earlier try")?;
            }
            let dir = RunDir::create(&path)?;
            match Box::pin(run(&order, &dir)).await {
                Ok(outcome) => {
                    broken = outcome.verdict.broken.keys().map(spelled).collect();
                    caught = is_caught(mutant.expected(), &broken);
                    if !caught && !broken.is_empty() {
                        let broken = broken.join(" ");
                        println!("  try {tries} broke {broken}, none of which is about it");
                    }
                    for error in &outcome.errors {
                        println!("  try {tries} is not valid: {error}");
                    }
                }
                // A system that does not come up, or cannot be read, is no verdict.
                Err(error) => println!("  try {tries} came to nothing: {error:#}"),
            }
            if !args.keep && dir.history().exists() {
                std::fs::remove_file(dir.history()).context("remove a history")?;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let caught_by = if caught { broken } else { Vec::new() };
        match caught {
            false => println!("  MISSED in {tries} runs, {seconds:.0} s"),
            true => println!("  caught by {} in {seconds:.0} s", caught_by.join(" ")),
        }
        let expected = mutant.expected().iter().map(|name| (*name).to_owned());
        outcomes.push(MutantOutcome {
            name: mutant.name().to_owned(),
            sentence: mutant.sentence().to_owned(),
            expected: expected.collect(),
            caught_by,
            tries,
            seconds,
        });
        write_json(&args.dir.join("mutants.json"), &outcomes)?;
        let table = mutants_table(&outcomes);
        std::fs::write(args.dir.join("mutants.md"), table).context("write the table")?;
    }
    println!("{}", mutants_table(&outcomes));
    Ok(outcomes.iter().all(|outcome| !outcome.caught_by.is_empty()))
}

/// Whether one of the assertions that are about a mistake is broken; any will do for one of which
/// nobody said which.
fn is_caught(expected: &[&str], broken: &[String]) -> bool {
    let about_it = |name: &String| expected.is_empty() || expected.contains(&name.as_str());
    broken.iter().any(about_it)
}

fn choose(names: &[String]) -> Result<Vec<Mutant>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let found = ALL.iter().find(|mutant| mutant.name() == name);
        found.copied().with_context(|| {
            let all: Vec<_> = ALL.iter().map(|mutant| mutant.name()).collect();
            format!("no mistake {name}; there are: {}", all.join(" "))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_a_mistake_catches_it() {
        let broken = ["A13".to_owned(), "A6".to_owned()];
        assert!(is_caught(&["A6", "A7"], &broken));
        assert!(!is_caught(&["A1"], &broken));
        assert!(is_caught(&[], &broken));
        assert!(!is_caught(&["A1"], &[]) && !is_caught(&[], &[]));
    }

    #[test]
    fn mistakes_are_chosen_by_name_and_unknown_ones_are_refused_with_the_list() {
        let all = choose(&[]).expect("all");
        assert!(all.len() >= 20);
        let name = all[3].name().to_owned();
        assert_eq!(choose(std::slice::from_ref(&name)).expect("one").len(), 1);
        let error = choose(&["M99".to_owned()]).expect_err("none");
        assert!(error.to_string().contains(&name), "{error}");
    }
}
