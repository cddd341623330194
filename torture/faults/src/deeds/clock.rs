//! A wall clock that is wrong, and jumps.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hubbub_stack::{
    Service,
    environment::{faketime, find_program},
};
use tokio::{process::Command, time::timeout};

use super::{Deed, back};

/// What a process is given, and taken again.
const VARIABLES: [&str; 5] = [
    "LD_PRELOAD",
    "FAKETIME_TIMESTAMP_FILE",
    // How old its knowledge of the file may be, in seconds.
    "FAKETIME_CACHE_DURATION",
    // Without it timers bend, too.
    "FAKETIME_DONT_FAKE_MONOTONIC",
    // Every process has its own clock, and leaves nothing in /dev/shm when it is killed.
    "FAKETIME_DISABLE_SHM",
];
/// What its clock says, as the library spells it, before and after the jump.
const WRONG: [[&str; 2]; 3] = [["+1h", "-1h"], ["-1h", "+1h"], ["+0 x2", "-1h x2"]];
/// What libfaketime lacks.
const WAITS: &str = include_str!("clock/waits.c");
const COMPILE: Duration = Duration::from_secs(30);
/// Less than this is the second's rounding.
const NEWS_S: i64 = 2;

/// The process is restarted in order under libfaketime, its clock jumps halfway, and it is
/// restarted without.
pub(super) async fn jump(deed: &Deed<'_>) -> Result<()> {
    let service = deed.service()?;
    let libraries = libraries(deed.ground.stack.dir(), &service.name()).await?;
    let wrong = WRONG[deed.dice().index(WRONG.len())];
    let file = deed
        .ground
        .stack
        .dir()
        .join(format!("clock-{}", service.name()));
    let turn = |to: &str| {
        std::fs::write(&file, format!("{to}\n"))
            .with_context(|| format!("write {}", file.display()))
    };
    turn(wrong[0])?;
    let file_name = file.display().to_string();
    let values = [libraries.as_str(), file_name.as_str(), "1", "1", "1"];
    for (name, value) in VARIABLES.into_iter().zip(values) {
        service.set_env(name, value);
    }
    service.stop().await;
    back(service).await?;
    // Its time counts from here: the restart itself is no part of it.
    let begun = deed.began.elapsed().as_millis();
    let begun = u64::try_from(begun).context("the fault has lasted for ever")?;
    deed.hold_until(begun + deed.fault.lasts_ms / 2).await;
    let known = note_clock(deed, service, 0).await;
    turn(wrong[1])?;
    deed.hold_until(begun + deed.fault.lasts_ms).await;
    note_clock(deed, service, known).await;
    restore(service);
    service.stop().await;
    back(service).await
}

/// Whether this machine has what is needed.
pub(crate) fn possible() -> bool {
    faketime().is_some() && find_program("cc").is_some()
}

/// The libraries to load before all others, as the loader spells it. A compiler is there wherever
/// our programs were built.
async fn libraries(dir: &Path, name: &str) -> Result<String> {
    let faketime = faketime().context("libfaketime is not installed")?;
    let compiler = find_program("cc").context("there is no C compiler `cc`")?;
    let (source, library) = (path(dir, name, "c"), path(dir, name, "so"));
    std::fs::write(&source, WAITS).with_context(|| format!("write {}", source.display()))?;
    let mut command = Command::new(compiler);
    command
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(COMPILE, command.output())
        .await
        .context("the compiler is slow")?;
    let output = output.context("run the compiler")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "compile {}: {said}",
        source.display()
    );
    Ok(format!("{}:{}", faketime.display(), library.display()))
}

fn path(dir: &Path, name: &str, extension: &str) -> PathBuf {
    dir.join(format!("waits-{name}.{extension}"))
}

/// Takes the variables away; the next start has the right clock.
pub(super) fn restore(service: &Service) {
    for name in VARIABLES {
        service.unset_env(name);
    }
}

/// Looks at the clock by which the process dates its answers; news is what differs from `known`.
/// A jump back shows late, because the date of an answer is kept until the clock has passed it.
async fn note_clock(deed: &Deed<'_>, service: &Service, known: i64) -> i64 {
    match off_by(deed, service).await {
        Ok(seconds) if (seconds - known).abs() >= NEWS_S => {
            deed.note(format!("clock of {} off by {seconds} s", service.name()));
            seconds
        }
        Ok(_) => known,
        Err(error) => {
            tracing::debug!("{}: {error:#}", service.name());
            known
        }
    }
}

async fn off_by(deed: &Deed<'_>, service: &Service) -> Result<i64> {
    let url = format!("http://{}/livez", service.ops_addr());
    let reply = deed
        .http
        .get(url)
        .send()
        .await
        .context("ask for the time")?;
    let date = reply
        .headers()
        .get("date")
        .context("the answer has no date")?;
    let theirs = seconds_of(date.to_str()?).context("the date cannot be read")?;
    Ok(theirs - hubbub_service::wall_clock_ms().div_euclid(1_000))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split_whitespace().skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let month = i64::try_from(MONTHS.find(words.next()?)? / 3 + 1).ok()?;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<i64>);
    let mut next = || clock.next()?.ok();
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    // Days since 1970 of the proleptic Gregorian calendar; a year begins in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400;
    let days = days + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(
            seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            seconds_of("Thu, 29 Feb 2024 23:59:59 GMT"),
            Some(1_709_251_199)
        );
        assert_eq!(seconds_of("yesterday"), None);
    }
}
