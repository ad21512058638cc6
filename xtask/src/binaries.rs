//! What runs: the product, the demonstration and the tests, built once.
//!
//! Static, so that the same files run here and in virtual machines, which have no libraries.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{built, cargo, output, target_dir};

/// The built files, by name.
#[derive(Debug)]
pub(crate) struct Binaries {
    /// PID 1 of the virtual machines.
    pub(crate) init: PathBuf,
    /// The product and what tests start.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// The programs of tests that were asked for.
    pub(crate) tests: Vec<(String, PathBuf)>,
}

/// A program of tests that run as processes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestProgram {
    /// `tests/kernel`
    Kernel,
    /// `tests/kernel/hazards`
    Hazards,
    /// `tests/kernel/carry_over`
    CarryOver,
    /// `tests/kernel/systemd`, for a machine that systemd has booted.
    Systemd,
    /// The end-to-end tests of `tests/lab`.
    E2e,
}

impl TestProgram {
    /// What cargo calls the target.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Hazards => "hazards",
            Self::CarryOver => "carry_over",
            Self::Systemd => "systemd",
            Self::E2e => "e2e",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Kernel | Self::Hazards | Self::CarryOver | Self::Systemd => {
                "synflip-kernel-tests"
            }
            Self::E2e => "synflip-lab",
        }
    }
}

impl Binaries {
    /// Builds all programs, and those of tests.
    ///
    /// In a directory of their own: other flags would otherwise throw away what the ordinary
    /// build has made.
    pub(crate) fn build(tests: &[TestProgram]) -> Result<Self> {
        let target = host_triple()?;
        let mut command = cargo();
        command
            // With a target, the flags are not for build scripts and macros.
            .args(["build", "--release", "--locked", "--target", &target])
            .arg("--target-dir")
            .arg(target_dir()?.join("static"))
            .args(["-p", "synflip-init", "-p", "synflip-cli"])
            .args(["-p", "synflip-bed", "-p", "synflip-lab", "--bins"])
            .arg("--message-format=json-render-diagnostics");
        for test in tests {
            command.args(["-p", test.package(), "--test", test.name()]);
            if *test == TestProgram::Hazards {
                command.args(["-p", "synflip-hazard-server"]);
            }
        }
        let built = command
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            // A machine holds all of them in memory.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        ensure!(
            built.status.success(),
            "cannot build the programs and tests: {}",
            built.status
        );
        Self::read(&String::from_utf8_lossy(&built.stdout))
    }

    /// The file of a program of tests.
    pub(crate) fn test(&self, wanted: TestProgram) -> Result<&Path> {
        let name = wanted.name();
        let found = self.tests.iter().find(|(test, _)| test == name);
        let (_, file) = found.with_context(|| format!("cargo has not built {name}"))?;
        Ok(file)
    }

    /// Where the programs are.
    pub(crate) fn dir(&self) -> Result<&Path> {
        let dir = self.init.parent();
        dir.context("cargo names a file without a directory")
    }

    /// Finds the files in what cargo tells about them, one JSON document a line.
    fn read(messages: &str) -> Result<Self> {
        let (mut init, mut programs, mut tests) = (None, Vec::new(), Vec::new());
        for (kind, name, file) in built(messages)? {
            match kind.as_str() {
                "test" => tests.push((name, file)),
                "bin" if name == "synflip-init" => init = Some(file),
                "bin" => programs.push((name, file)),
                _ => {}
            }
        }
        let init = init.context("cargo has not built synflip-init")?;
        Ok(Self {
            init,
            programs,
            tests,
        })
    }
}

/// What this machine's compiler builds for.
fn host_triple() -> Result<String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_tests_are_told_apart() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"aya"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/deps/kernel-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"synflip-init"},"executable":"/t/synflip-init"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"synflip"},"executable":"/t/synflip"}
{"reason":"build-finished","success":true}"#;
        let built = Binaries::read(messages).unwrap();
        assert_eq!(built.init, PathBuf::from("/t/synflip-init"));
        assert_eq!(
            built.programs,
            [("synflip".to_owned(), PathBuf::from("/t/synflip"))]
        );
        let kernel = built.test(TestProgram::Kernel).unwrap();
        assert_eq!(kernel, Path::new("/t/deps/kernel-1"));
        assert!(built.test(TestProgram::E2e).is_err());
    }
}
