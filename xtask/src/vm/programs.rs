//! What runs inside: the tests and programs of this workspace, static, because a machine has no
//! libraries.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, target_dir};

/// The built files, by name.
#[derive(Debug)]
pub(crate) struct Programs {
    /// PID 1.
    pub(crate) init: PathBuf,
    /// The product and what tests start.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// The test targets.
    pub(crate) tests: Vec<(String, PathBuf)>,
}

impl Programs {
    /// Builds all programs, and those test targets.
    ///
    /// In a directory of their own: other flags would otherwise throw away what the ordinary
    /// build has made.
    pub(crate) fn build(tests: &[String]) -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the machines are x86-64, and their programs are built on x86-64 only"
        );
        let mut command = cargo();
        command
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(target_dir()?.join("vm/build"))
            .args([
                "-p",
                "synflip-init",
                "-p",
                "synflip-cli",
                "-p",
                "synflip-tests",
                "--bins",
            ])
            .arg("--message-format=json-render-diagnostics");
        for test in tests {
            command.args(["--test", test]);
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
            "cannot build what the machines run: {}",
            built.status
        );
        Self::read(&String::from_utf8_lossy(&built.stdout))
    }

    /// Finds the files in what cargo tells about them, one JSON document a line.
    fn read(messages: &str) -> Result<Self> {
        let (mut init, mut programs, mut tests) = (None, Vec::new(), Vec::new());
        for message in messages.lines() {
            let message: Value = serde_json::from_str(message).context("cargo printed no JSON")?;
            let target = &message["target"];
            let (Some(path), Some(name)) =
                (message["executable"].as_str(), target["name"].as_str())
            else {
                continue;
            };
            let file = (name.to_owned(), PathBuf::from(path));
            match target["kind"][0].as_str() {
                Some("test") => tests.push(file),
                Some("bin") if name == "synflip-init" => init = Some(file.1),
                Some("bin") => programs.push(file),
                _ => {}
            }
        }
        tests.sort();
        let init = init.context("cargo has not built synflip-init")?;
        Ok(Self {
            init,
            programs,
            tests,
        })
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_tests_are_told_apart() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"aya"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"flip"},"executable":"/t/deps/flip-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"synflip-init"},"executable":"/t/synflip-init"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"synflip"},"executable":"/t/synflip"}
{"reason":"build-finished","success":true}"#;
        let built = Programs::read(messages).unwrap();
        assert_eq!(built.init, PathBuf::from("/t/synflip-init"));
        assert_eq!(
            built.programs,
            [("synflip".to_owned(), PathBuf::from("/t/synflip"))]
        );
        assert_eq!(
            built.tests,
            [("flip".to_owned(), PathBuf::from("/t/deps/flip-1"))]
        );
    }
}
