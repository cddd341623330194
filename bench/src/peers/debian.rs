//! Peers that Debian packages: nginx with Nchan, and the NATS server.
//!
//! They are unpacked into the cache directory and run from there: nothing is installed into the
//! system, nothing needs root, and no service starts by itself.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow};
use hubbub_stack::environment::{self, cache_dir, find_program};

use super::{Unavailable, programs};

const PACKAGES: [&str; 3] = ["nginx", "libnginx-mod-nchan", "nats-server"];
/// Written last: the file names of the packages, which have their versions.
const DONE: &str = "packages.txt";
const WHY: &str = "  nginx, libnginx-mod-nchan  a peer: Nchan, publish and subscribe inside nginx
  nats-server                a peer: the NATS server, over WebSocket";

/// Fetches the packages, unless that was done before. It asks once on the terminal, unless `yes`
/// or `CI=true` say that it may, and blocks while apt works. This is the only place where the
/// benchmarks touch Debian packages.
///
/// # Errors
/// [`Unavailable`] when there is no apt, nobody to ask, a no, or a failure of apt.
pub fn install(yes: bool) -> Result<(), Unavailable> {
    let dir = dir()?;
    let parent = dir.parent().context("the directory has a name")?;
    std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    // Beside the directory, which is made anew. Two who ask at the same time: the second one
    // finds it there.
    let lock = programs::lock_file(&dir.with_extension("lock"))?;
    lock.lock().context("wait for an installation")?;
    if dir.join(DONE).exists() {
        return Ok(());
    }
    if find_program("apt-get").is_none() || find_program("dpkg-deb").is_none() {
        let why = "it is taken from Debian's packages, and this is not Debian";
        return Err(Unavailable::absent(why));
    }
    if !(yes || environment::var("CI").as_deref() == Some("true") || agreed(&dir)) {
        return Err(Unavailable::absent("its Debian package was not wanted"));
    }
    fetch(&dir).map_err(|error| Unavailable::absent(format!("{error:#}")))
}

/// The packages' files.
#[derive(Debug)]
pub(super) struct Unpacked {
    dir: PathBuf,
    packages: Vec<(String, String)>,
}

impl Unpacked {
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// `nats-server 2.9.10-1+b3`.
    pub(super) fn version(&self, packages: &[&str]) -> String {
        let named = |name: &&str| {
            let version = self.packages.iter().find(|(package, _)| package == name);
            version.map(|(package, version)| format!("{package} {version}"))
        };
        let words: Vec<String> = packages.iter().filter_map(named).collect();
        words.join(", ")
    }
}

/// What [`install`] fetched. `program` is asked whether it runs here.
pub(super) async fn unpacked(program: &str) -> Result<Unpacked, Unavailable> {
    let dir = dir()?;
    let Ok(list) = std::fs::read_to_string(dir.join(DONE)) else {
        return Err(Unavailable::absent(
            "its Debian package was not fetched (`./dev bench --yes` does)",
        ));
    };
    let packages = list.lines().filter_map(package).collect();
    let unpacked = Unpacked { dir, packages };
    let said = programs::says(&unpacked.file(program), &["-v"]).await;
    said.map_err(|why| anyhow!("{program} does not run: {why}"))?;
    Ok(unpacked)
}

fn dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("bench-debian"))
}

/// Name and version out of `nginx_1.22.1-9+deb12u11_amd64.deb`; apt writes an epoch's colon as
/// `%3a`.
fn package(file: &str) -> Option<(String, String)> {
    let mut words = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (words.next()?, words.next()?);
    Some((name.to_owned(), version.replace("%3a", ":")))
}

/// Asks; without a terminal nobody has agreed.
fn agreed(dir: &Path) -> bool {
    let mut terminal = std::io::stderr();
    let question = format!(
        "{WHY}\nUnpack these Debian packages into {}? [Y/n] ",
        dir.display()
    );
    if !std::io::stdin().is_terminal() || terminal.write_all(question.as_bytes()).is_err() {
        return false;
    }
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    let answer = answer.trim();
    read.is_ok_and(|bytes| bytes > 0) && (answer.is_empty() || answer.eq_ignore_ascii_case("y"))
}

fn fetch(dir: &Path) -> Result<()> {
    // Made anew: what an interrupted attempt left is of no use.
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", dir.display()));
        }
        _ => {}
    }
    let archives = dir.join("archives");
    std::fs::create_dir_all(&archives).with_context(|| format!("create {}", dir.display()))?;
    // Lists may be missing or old: then they are brought up to date, and it is tried again.
    if download(&archives).is_err() {
        run(Command::new("apt-get").arg("update")).context("bring apt's lists up to date")?;
        download(&archives).context("fetch Debian packages")?;
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&archives).context("list the packages")? {
        let entry = entry.context("list the packages")?;
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(entry.path())
            .arg(dir))
        .with_context(|| format!("unpack {}", entry.path().display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    std::fs::write(dir.join(DONE), names.join("\n")).context("mark the installation")
}

fn download(archives: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    run(apt.arg("download").args(PACKAGES).current_dir(archives))
}

/// Runs a program; its last words if it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.context("start a program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it said nothing");
    anyhow::ensure!(output.status.success(), "{last}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_file_names() {
        let known = package("libnginx-mod-nchan_1%3a1.3.6+dfsg-2_amd64.deb");
        let wanted = ("libnginx-mod-nchan".to_owned(), "1:1.3.6+dfsg-2".to_owned());
        assert_eq!(known, Some(wanted));
        assert_eq!(package("packages.txt"), None);
    }
}
