//! `cargo xtask check`: formatting, lints, documentation.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    cargo::{cargo, root, run as execute},
    ebpf,
    toolchain::CoreSource,
};

pub(crate) fn run() -> Result<ExitCode> {
    let root = root();
    for dir in [&root, &root.join("ebpf")] {
        let mut fmt = cargo();
        fmt.current_dir(dir).args(["fmt", "--all", "--check"]);
        execute(&mut fmt).context("not formatted as rustfmt.toml says: run `cargo fmt` there")?;
    }
    execute(
        cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(["--", "-D", "warnings"]),
    )?;
    // They need root, and so have `test = false`, which takes them out of `--all-targets`. Of the
    // whole workspace again: for some packages the libraries would have other features.
    let mut rooted = cargo();
    rooted.args(["clippy", "--workspace", "--locked"]);
    for test in ["kernel", "hazards", "systemd", "e2e"] {
        rooted.args(["--test", test]);
    }
    execute(rooted.args(["--", "-D", "warnings"]))?;
    match CoreSource::provide() {
        Ok(core) => execute(
            ebpf::command(&root, &core)
                .args(["clippy", "--release", "--locked", "--all-features"])
                .arg("--target-dir")
                .arg(ebpf::target_dir()?)
                .args(["--", "-D", "warnings"]),
        )?,
        Err(why) => eprintln!("WARNING: ebpf/ is NOT LINTED: {why:#}"),
    }
    execute(
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    )?;
    Ok(ExitCode::SUCCESS)
}
