//! Debian packages: installed on the machine, or fetched from another release without touching it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{is_root, output, quietly, run};

/// Installs those of the packages that are missing.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install {}", missing.join(" "));
    ensure!(
        is_root(),
        "{why} needs packages that only root can install: `sudo {by_hand}`"
    );
    eprintln!("installing for {why}: {}", missing.join(" "));
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet");
        command
    };
    run(apt_get().arg("update")).context("apt-get cannot refresh its lists")?;
    run(apt_get()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing))
    .with_context(|| format!("{why} needs packages; install them by hand: `{by_hand}`"))
}

fn installed(package: &str) -> bool {
    quietly(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// An apt that is not the machine's: its own sources, lists and cache under one directory.
///
/// The site is the one the machine already uses, signatures are checked with the machine's
/// Debian keys.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    /// Sets one up for a suite of Debian, such as `trixie-backports`, and fetches its lists.
    pub(crate) fn new(suite: &str, dir: PathBuf) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part))
                .with_context(|| format!("cannot create {}", dir.join(part).display()))?;
        }
        let site = site()?;
        let source = format!("deb [signed-by={KEYRING}] {site} {suite} main\n");
        fs::write(dir.join("sources.list"), source)
            .and_then(|()| fs::write(dir.join("status"), ""))
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        let apt = Self { dir };
        quietly(apt.command("apt-get").arg("update"))
            .with_context(|| format!("cannot read the package lists of {suite}"))?;
        Ok(apt)
    }

    /// The newest version of a package that starts with a prefix, if the suite has one.
    pub(crate) fn newest(&self, package: &str, prefix: &str) -> Result<Option<String>> {
        // One line per version, newest first: `package | version | source`.
        let listed = quietly(self.command("apt-cache").args(["madison", package]))?;
        let mut versions = listed.lines().filter_map(|line| line.split('|').nth(1));
        Ok(versions.find_map(|v| v.trim().starts_with(prefix).then(|| v.trim().to_owned())))
    }

    /// Downloads a package and unpacks it, scripts not run, into a directory.
    pub(crate) fn unpack(&self, package: &str, version: &str, into: &Path) -> Result<()> {
        let scratch = tempfile::tempdir_in(&self.dir).context("cannot create a directory")?;
        quietly(
            self.command("apt-get")
                .current_dir(scratch.path())
                .args(["download", &format!("{package}={version}")]),
        )?;
        let mut files = fs::read_dir(scratch.path())?;
        let file = files
            .next()
            .with_context(|| format!("apt-get left no {package}"))??
            .path();
        run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        command
            .arg("--quiet")
            .arg(format!("-oDir::Etc::sourcelist={}", at("sources.list")))
            .arg("-oDir::Etc::sourceparts=/dev/null")
            .arg(format!("-oDir::State::lists={}", at("lists")))
            .arg(format!("-oDir::State::status={}", at("status")))
            .arg(format!("-oDir::Cache={}", at("cache")))
            // The user that apt switches to otherwise cannot write here.
            .arg("-oAPT::Sandbox::User=root");
        command
    }
}

/// The site from which this machine gets Debian's main component.
fn site() -> Result<String> {
    let fields = ["--format", "$(SITE) $(ORIGIN) $(CODENAME)"];
    let filter = ["Identifier: Packages", "Component: main", "Origin: Debian"];
    let sites = output(
        Command::new("apt-get")
            .arg("indextargets")
            .args(fields)
            .args(filter),
    )
    .context("apt-get does not say where packages come from; is this Debian?")?;
    // The security archive is another tree: it has no backports.
    let usable = sites.lines().find(|line| !line.ends_with("-security"));
    let site = usable.and_then(|line| line.split(' ').next());
    Ok(site
        .context("apt has no source with Debian's main component")?
        .to_owned())
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
