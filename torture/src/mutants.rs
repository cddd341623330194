//! Whether the suite notices mistakes: each is planted alone, and runs go on until one is caught.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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
    system::Plan,
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
    /// Do not first run the same programs without a mistake.
    #[arg(long)]
    no_baseline: bool,
    /// Keep the histories, too: about 100 MB each.
    #[arg(long)]
    keep: bool,
    /// Say what each run does.
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    programs: Programs,
}

/// Plants, runs and says what was caught by what; true if all were, and nothing was found where
/// nothing was planted.
///
/// # Errors
/// When a name is none, or a directory cannot be written.
pub async fn run_all(args: MutantsArgs) -> Result<bool> {
    let chosen = choose(&args.names)?;
    let plan = args.programs.clone().plan()?;
    if !args.no_baseline && !baseline(&args, &plan).await? {
        println!("the baseline is broken: what the mistakes break would say nothing");
        return Ok(false);
    }
    let mut outcomes = Vec::new();
    for mutant in chosen {
        println!("{}: {}", mutant.name(), mutant.sentence());
        let outcome = hunt(&args, &plan, mutant).await?;
        match outcome.caught_by.as_slice() {
            [] => println!(
                "  MISSED in {} runs, {:.0} s",
                outcome.tries, outcome.seconds
            ),
            by => println!("  caught by {} in {:.0} s", by.join(" "), outcome.seconds),
        }
        outcomes.push(outcome);
        write_json(&args.dir.join("mutants.json"), &outcomes)?;
        let table = mutants_table(&outcomes);
        std::fs::write(args.dir.join("mutants.md"), table).context("write the table")?;
    }
    println!("{}", mutants_table(&outcomes));
    Ok(outcomes.iter().all(|outcome| !outcome.caught_by.is_empty()))
}

/// The same programs without a mistake: whether nothing is broken.
async fn baseline(args: &MutantsArgs, plan: &Plan) -> Result<bool> {
    println!("baseline: the same programs, nothing planted");
    let began = Instant::now();
    let tried = one_try(args, plan, None, 1).await?;
    let broken = match tried {
        Tried::Broke(broken) => broken,
        Tried::Nothing => return Ok(false),
    };
    let seconds = began.elapsed().as_secs_f64();
    match broken.as_slice() {
        [] => println!("  nothing broken in {seconds:.0} s"),
        broken => println!("  broke {}", broken.join(" ")),
    }
    Ok(broken.is_empty())
}

/// Runs with one mistake until it is caught.
async fn hunt(args: &MutantsArgs, plan: &Plan, mutant: Mutant) -> Result<MutantOutcome> {
    let began = Instant::now();
    let (mut caught_by, mut tries) = (Vec::new(), 0);
    while caught_by.is_empty() && tries < args.tries {
        tries += 1;
        let Tried::Broke(broken) = one_try(args, plan, Some(mutant), tries).await? else {
            continue;
        };
        if is_caught(mutant.expected(), &broken) {
            caught_by = broken;
        } else if !broken.is_empty() {
            let broken = broken.join(" ");
            println!("  try {tries} broke {broken}, none of which is about it");
        }
    }
    let expected = mutant.expected().iter().map(|name| (*name).to_owned());
    Ok(MutantOutcome {
        name: mutant.name().to_owned(),
        sentence: mutant.sentence().to_owned(),
        expected: expected.collect(),
        caught_by,
        tries,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What one run says.
enum Tried {
    /// These assertions; perhaps none.
    Broke(Vec<String>),
    /// It came to no verdict, and has said why.
    Nothing,
}

async fn one_try(
    args: &MutantsArgs,
    plan: &Plan,
    mutant: Option<Mutant>,
    number: u32,
) -> Result<Tried> {
    let mut plan = plan.clone();
    plan.mutant = mutant.map(|mutant| mutant.name().to_owned());
    let mut profile = Profile::named(&args.profile)?;
    // No mistake of the list is about what is left behind (A13).
    profile.settle = Duration::ZERO;
    let order = Order {
        profile,
        seed: args.seed + u64::from(number - 1),
        faults: None,
        plan,
        silent: !args.verbose,
    };
    let name = mutant.map_or("baseline", |mutant| mutant.name());
    let path = args.dir.join(name).join(format!("try-{number}"));
    if path.exists() {
        std::fs::remove_dir_all(&path).context("remove an earlier try")?;
    }
    let dir = RunDir::create(&path)?;
    let tried = match Box::pin(run(&order, &dir)).await {
        Ok(outcome) => {
            for error in &outcome.errors {
                println!("  try {number} is not valid: {error}");
            }
            let planted = is_planted_in(&dir.logs())?;
            if planted == mutant.is_some() {
                Tried::Broke(outcome.verdict.broken.keys().map(spelled).collect())
            } else {
                println!("  try {number}: no log says that something is planted (or one does)");
                Tried::Nothing
            }
        }
        // A system that does not come up, or cannot be read, is no verdict.
        Err(error) => {
            println!("  try {number} came to nothing: {error:#}");
            Tried::Nothing
        }
    };
    if !args.keep && dir.history().exists() {
        std::fs::remove_file(dir.history()).context("remove a history")?;
    }
    Ok(tried)
}

/// Whether a process has said in its log that it has a mistake: without that line the programs are
/// another build's, and a run of them proves nothing.
fn is_planted_in(logs: &Path) -> Result<bool> {
    for log in std::fs::read_dir(logs).context("list the logs")? {
        let path = log.context("list the logs")?.path();
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if String::from_utf8_lossy(&text).contains(hubbub_service::mutant::PLANTED) {
            return Ok(true);
        }
    }
    Ok(false)
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
    fn a_build_without_mistakes_is_told_by_its_logs() {
        let logs = tempfile::tempdir().expect("a directory");
        std::fs::write(logs.path().join("edge-1.log"), "ready\n").expect("a log");
        assert!(!is_planted_in(logs.path()).expect("read"));
        let line = format!("WARN {}: no sweep\n", hubbub_service::mutant::PLANTED);
        std::fs::write(logs.path().join("edge-2.log"), line).expect("a log");
        assert!(is_planted_in(logs.path()).expect("read"));
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
