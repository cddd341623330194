//! The smoke test: a whole run of profile t0, judged by the checker.

use hubbub_torture::{
    files::RunDir,
    profile::Profile,
    run::{self, Order},
    system::Plan,
};

/// A fixed one, so that two failures can be compared; `./dev torture` draws others.
const SEED: u64 = 20_261_121;

#[tokio::test(flavor = "multi_thread")]
async fn t0_breaks_nothing() -> anyhow::Result<()> {
    let kept = tempfile::tempdir()?;
    let dir = RunDir::create(&kept.path().join("t0"))?;
    let order = Order {
        profile: Profile::t0(),
        seed: SEED,
        faults: None,
        plan: Plan {
            bin_dir: hubbub_stack::test_bin_dir()?,
            mutant: None,
        },
        silent: false,
    };
    let outcome = Box::pin(run::run(&order, &dir)).await?;
    let summary = run::summary(
        &outcome.verdict,
        &outcome.errors,
        &outcome.vacuous,
        dir.path(),
    );
    if !outcome.holds() {
        // What explains it is kept.
        let path = kept.keep();
        panic!("{summary}\nkept in {}", path.display());
    }
    Ok(())
}
