//! The programs of another commit, built from git and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo::{built, cargo, metadata, output, quietly, root, target_dir};

/// What the hazards start.
pub(crate) const OF_HAZARDS: &[&str] = &[
    "synflip",
    "synflip-activate",
    HAZARD_SERVER,
    "synflip-server",
];

/// Builds programs of a commit; returns where they are.
///
/// In `target/against/`, in a directory for each commit: a second time there is nothing to do.
pub(crate) fn programs(commit: &str, wanted: &[&str]) -> Result<PathBuf> {
    let hash = hash(commit)?.with_context(|| {
        format!(
            "this clone has no commit {commit}: is the name right, or the clone a shallow one? \
             (`git fetch --unshallow` gets all commits)"
        )
    })?;
    let dir = target_dir()?.join("against").join(&hash);
    let tree = dir.join("tree");
    if !tree.is_dir() {
        unpack(&hash, &dir).with_context(|| format!("cannot unpack {commit}"))?;
    }
    if wanted.contains(&HAZARD_SERVER) {
        add_server(&tree).context("cannot add the server of the hazards to that commit")?;
    }
    let mut command = cargo();
    command
        .current_dir(&tree)
        .args(["build", "--release", "--locked"])
        .arg("--target-dir")
        .arg(dir.join("target"))
        .args(programs_in(&tree, wanted)?)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    let said = output(command.arg("--message-format=json-render-diagnostics"))?;
    let built = built(&said)?;
    let dir = built.first().and_then(|(_, _, file)| file.parent());
    Ok(dir
        .context("cargo has built no program of that commit")?
        .to_owned())
}

/// The whole name of a commit; none if this clone does not have it.
pub(crate) fn hash(commit: &str) -> Result<Option<String>> {
    let found = git()
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{commit}^{{commit}}"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start git")?;
    let hash = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    Ok(found.status.success().then_some(hash))
}

/// Writes the files of a commit to `tree` in a directory, all of them or none.
fn unpack(hash: &str, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    // Beside the index that belongs to the checkout.
    let index = dir.join("index");
    quietly(
        git()
            .args(["read-tree", hash])
            .env("GIT_INDEX_FILE", &index),
    )?;
    let partial = dir.join("tree.partial");
    let mut prefix = partial.clone().into_os_string();
    prefix.push("/");
    quietly(
        git()
            .args(["checkout-index", "--all", "--force", "--prefix"])
            .arg(&prefix)
            .env("GIT_INDEX_FILE", &index),
    )?;
    fs::rename(&partial, dir.join("tree")).context("rename the unpacked files")
}

/// Copies the server of the hazards, as it is now, to where it is built against that commit's
/// helper.
fn add_server(tree: &Path) -> Result<()> {
    let mut changed = false;
    for file in ["Cargo.toml", "src/main.rs"] {
        let file = Path::new(SERVER).join(file);
        let now = fs::read(root().join(&file))?;
        let there = tree.join(&file);
        // Cargo goes by the time: what is the same must not be written.
        if fs::read(&there).is_ok_and(|there| there == now) {
            continue;
        }
        fs::create_dir_all(there.parent().context("a file is in a directory")?)?;
        fs::write(there, now)?;
        changed = true;
    }
    if !changed {
        return Ok(());
    }
    let manifest = tree.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    if !text.contains(SERVER) {
        let members = "members = [";
        ensure!(text.contains(members), "its Cargo.toml has no {members}");
        let with = text.replacen(members, &format!("{members}\n    \"{SERVER}\","), 1);
        fs::write(manifest, with)?;
    }
    // The lock file gets the new package, and everything else in it stays.
    quietly(cargo().current_dir(tree).args(["update", "--workspace"])).map(drop)
}

/// The arguments for cargo that select the programs, wherever they are.
fn programs_in(tree: &Path, wanted: &[&str]) -> Result<Vec<String>> {
    let metadata = metadata(cargo().current_dir(tree).arg("--locked"))?;
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut args = Vec::new();
    for package in array(&metadata["packages"]) {
        for target in array(&package["targets"]) {
            let program = wanted.iter().find(|name| target["name"] == **name);
            let (Some(program), "bin") = (program, target["kind"][0].as_str().unwrap_or_default())
            else {
                continue;
            };
            let package = package["name"].as_str().context("a package has no name")?;
            args.extend(["-p", package, "--bin", program].map(str::to_owned));
        }
    }
    ensure!(!args.is_empty(), "that commit has none of the programs");
    Ok(args)
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(root());
    command
}

/// The program of the server that misuses the helper.
const HAZARD_SERVER: &str = "synflip-hazard-server";
/// Its folder.
const SERVER: &str = "tests/kernel/hazards/server";
