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
    ///
    /// It takes nothing for installed.
    pub(crate) fn new(suite: &str, dir: PathBuf) -> Result<Self> {
        Self::with_status(&[suite], dir, "")
    }

    /// Sets one up for several suites, which takes for installed what the machine has.
    pub(crate) fn beside_the_machine(suites: &[&str], dir: PathBuf) -> Result<Self> {
        let status = fs::read_to_string(STATUS).with_context(|| format!("cannot read {STATUS}"))?;
        Self::with_status(suites, dir, &status)
    }

    fn with_status(suites: &[&str], dir: PathBuf, status: &str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part))
                .with_context(|| format!("cannot create {}", dir.join(part).display()))?;
        }
        let site = site()?;
        let source = |suite: &&str| format!("deb [signed-by={KEYRING}] {site} {suite} main\n");
        let sources: String = suites.iter().map(source).collect();
        fs::write(dir.join("sources.list"), sources)
            .and_then(|()| fs::write(dir.join("status"), status))
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        let apt = Self { dir };
        quietly(apt.command("apt-get").arg("update"))
            .with_context(|| format!("cannot read the package lists of {}", suites.join(", ")))?;
        Ok(apt)
    }

    /// The packages whose names start with a prefix.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = quietly(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
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

    /// Downloads a package of a suite and whatever it needs that is not installed, and unpacks
    /// all of it into a directory.
    pub(crate) fn unpack_with_needs(&self, package: &str, suite: &str, into: &Path) -> Result<()> {
        quietly(
            self.command("apt-get")
                .args([
                    "install",
                    "--download-only",
                    "--yes",
                    "--no-install-recommends",
                ])
                .args(["--target-release", suite, package]),
        )?;
        let archives = self.dir.join("cache/archives");
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        for entry in fs::read_dir(&archives)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
                // Not to be unpacked again beside a newer one.
                fs::remove_file(&file)
                    .with_context(|| format!("cannot remove {}", file.display()))?;
            }
        }
        Ok(())
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
            // Nobody but this process is here; the machine's own lock is root's.
            .arg("-oDebug::NoLocking=1")
            // Otherwise it is no failure that no list can be fetched, and packages seem not to be.
            .arg("-oAPT::Update::Error-Mode=any")
            .arg("-oAcquire::Languages=none")
            .arg("-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")
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

const STATUS: &str = "/var/lib/dpkg/status";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
