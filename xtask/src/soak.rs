//! `cargo xtask soak`: faults of every kind under load.

use anyhow::{Context as _, Result};

use crate::{options::take, program::Program};

pub(crate) const PROGRAM: Program = Program {
    name: "synflip-soak",
    deadline_s: |args, kernels| Ok(minutes(args)? * 60 + kernels.deadline_s("synflip-soak")),
    vm_defaults: &[],
    columns: &[
        ("faults", "/faults/total"),
        ("kinds", "/faults/kinds"),
        ("connections", "/connections/ok"),
        ("lost", "/connections/lost"),
        ("died in service", "/connections/died_in_service"),
        ("longest stall ms", "/longest_stall_ms"),
        ("fds before", "/agent/before/fds"),
        ("after", "/agent/after/fds"),
        ("KiB before", "/agent/before/rss_kib"),
        ("after", "/agent/after/rss_kib"),
    ],
};

/// What `--minutes` says, rounded up.
fn minutes(args: &[String]) -> Result<u64> {
    let (values, _) = take(args, "--minutes")?;
    let Some(value) = values.last() else {
        return Ok(DEFAULT);
    };
    let minutes: f64 = value.parse().context("--minutes")?;
    // The program itself refuses what makes no sense.
    let whole = (1..MOST).find(|whole| *whole as f64 >= minutes);
    Ok(whole.unwrap_or(MOST))
}

/// The program's own.
const DEFAULT: u64 = 5;
const MOST: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_follows_the_minutes() {
        let of = |args: &[&str]| minutes(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["--seed", "7"]).unwrap(), DEFAULT);
        assert_eq!(of(&["--minutes", "0.5"]).unwrap(), 1);
        assert_eq!(of(&["--seed=1", "--minutes=12.1"]).unwrap(), 13);
        assert!(of(&["--minutes"]).is_err() && of(&["--minutes", "x"]).is_err());
    }
}
