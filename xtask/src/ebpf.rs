//! `cargo xtask ebpf`: the BPF object, from source to the bytes that are committed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{self, cargo, root, run as execute},
    manifest::{Manifest, OBJECT},
    toolchain::{CoreSource, Provided, Toolchain},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rebuild, and compare with the committed object byte for byte; nothing is written.
    #[arg(long, conflicts_with = "log")]
    check: bool,
    /// Build the variant that logs, into the target directory; it is not committed.
    #[arg(long)]
    log: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = root();
    let toolchain = match Toolchain::provide()? {
        Provided::Complete(toolchain) => toolchain,
        Provided::NoCoreSource(why) if args.check => return check_manifest_only(&root, &why),
        Provided::NoCoreSource(why) => {
            return Err(why.context("the BPF object cannot be built without the source of core"));
        }
    };
    let target = target_dir()?;
    if args.check {
        return check(&root, &toolchain);
    }
    if args.log {
        let object = target.join("synflip-log.bpf.o");
        build(&root, &toolchain, &["--features", "log"], &target, &object)?;
        println!("{}", object.display());
        return Ok(ExitCode::SUCCESS);
    }
    let object = root.join(OBJECT);
    build(&root, &toolchain, &[], &target, &object)?;
    let manifest = Manifest::new(&root, &read(&object)?, toolchain.versions)?;
    manifest.write(&root)?;
    println!("{OBJECT}: sha256 {}", manifest.object);
    Ok(ExitCode::SUCCESS)
}

/// Builds from nothing and compares.
fn check(root: &Path, toolchain: &Toolchain) -> Result<ExitCode> {
    let manifest = Manifest::read(root)?;
    let scratch =
        tempfile::tempdir_in(cargo::target_dir()?).context("cannot create a directory")?;
    let object = scratch.path().join("synflip.bpf.o");
    build(
        root,
        toolchain,
        &[],
        &scratch.path().join("target"),
        &object,
    )?;
    let built = read(&object)?;
    if built != read(&root.join(OBJECT))? {
        let (then, now) = (&manifest.versions, &toolchain.versions);
        if let (None, true) = (manifest.outdated(root)?, then != now) {
            bail!(
                "{OBJECT} differs from a fresh build, but the sources are the same: it was built \
                 with {then}, this is {now}. Use those versions, or run `cargo xtask ebpf` and \
                 commit the result"
            );
        }
        bail!("{OBJECT} differs from a fresh build: run `cargo xtask ebpf` and commit the result");
    }
    // Same bytes of other sources: a comment, say. The manifest has to follow all the same.
    if let Some(what) = manifest.outdated(root)? {
        bail!("{OBJECT} is outdated: {what}. Run `cargo xtask ebpf` and commit the result");
    }
    println!(
        "{OBJECT} is what its sources make: sha256 {}",
        manifest.object
    );
    Ok(ExitCode::SUCCESS)
}

/// The second best check, where nothing can be built.
fn check_manifest_only(root: &Path, why: &anyhow::Error) -> Result<ExitCode> {
    eprintln!("WARNING: the BPF object is NOT REBUILT: the source of core cannot be had: {why:#}");
    eprintln!("WARNING: only the hashes in its manifest are compared");
    if let Some(what) = Manifest::read(root)?.outdated(root)? {
        bail!("{OBJECT} is outdated: {what}. Run `cargo xtask ebpf` and commit the result");
    }
    println!("{OBJECT} matches its manifest; whether it is what its sources make was not checked");
    Ok(ExitCode::SUCCESS)
}

/// Builds the object without debug information, and without a trace of where it was built.
fn build(
    root: &Path,
    toolchain: &Toolchain,
    features: &[&str],
    target: &Path,
    object: &Path,
) -> Result<()> {
    execute(command(root, &toolchain.core).args(["fetch", "--locked", "--quiet"]))?;
    let mut command = command(root, &toolchain.core);
    command
        .args(["build", "--release", "--locked", "--quiet"])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain)?)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker);
    execute(&mut command)?;
    // .BTF and .BTF.ext stay: the loader needs the one for the maps, the verifier's log names
    // source lines from the other.
    execute(
        Command::new(toolchain.llvm_bin.join("llvm-objcopy"))
            .arg("--strip-debug")
            .arg(target.join("bpfel-unknown-none/release/synflip-ebpf"))
            .arg(object),
    )
}

/// Cargo in `ebpf/`, which its `.cargo/config.toml` sets to the BPF target.
pub(crate) fn command(root: &Path, core: &CoreSource) -> Command {
    let mut command = cargo();
    command.current_dir(root.join("ebpf"));
    // What the user set for programs of this machine is not for this one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if FOREIGN.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    core.apply(&mut command);
    command
}

fn flags(root: &Path, toolchain: &Toolchain) -> Result<OsString> {
    // The maps are defined by their BTF, which bpf-linker makes from the debug information.
    let mut flags: Vec<OsString> = vec!["-Cdebuginfo=2".into(), "-Clink-arg=--btf".into()];
    // The names are absolute and exist nowhere: LLVM would copy the text of a line that it finds.
    let mut places = vec![
        (root.to_path_buf(), "/synflip"),
        (toolchain.core.dir(), "/rust"),
    ];
    // Each registry by itself, since the name of its directory depends on where it is.
    let sources = cargo_home()?.join("registry/src");
    for entry in fs::read_dir(&sources).with_context(|| {
        format!(
            "cannot list {}, which holds fetched crates",
            sources.display()
        )
    })? {
        places.push((entry?.path(), "/registry"));
    }
    for (place, name) in places {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(place);
        flag.push("=");
        flag.push(name);
        flags.push(flag);
    }
    Ok(flags.join("\x1f".as_ref()))
}

/// Where `ebpf/` is built.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(cargo::target_dir()?.join("ebpf"))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::home_dir().context("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Beginnings of the names of variables that change what cargo builds, or how.
const FOREIGN: [&str; 6] = [
    "CARGO_BUILD_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "RUSTC_",
    "RUSTFLAGS",
];
