//! How long does one run of the program take? The kernel can count that.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Whether the kernel counts the run time of BPF programs, while this exists.
///
/// Counting takes two readings of the clock for each run, so not while anything else is measured.
pub(super) struct Counting {
    before: String,
}

impl Counting {
    /// It does not, even if somebody else has asked for it.
    pub(super) fn off() -> Result<Self> {
        Self::switch("0")
    }

    pub(super) fn on() -> Result<Self> {
        Self::switch("1")
    }

    fn switch(to: &str) -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("read {SWITCH}"))?;
        fs::write(SWITCH, to).with_context(|| format!("write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // It was writable a moment ago, and wrong is only a little overhead.
        drop(fs::write(SWITCH, &self.before));
    }
}

/// Runs of all programs of this kind that a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct RunTime {
    pub(super) nanoseconds: u64,
    pub(super) runs: u64,
}

impl RunTime {
    /// Reads the counts of the programs that the process has open.
    pub(super) fn read(pid: u32) -> Result<Self> {
        let dir = format!("/proc/{pid}/fdinfo");
        let mut sum = Self::default();
        for entry in fs::read_dir(&dir).with_context(|| format!("read {dir}"))? {
            // A descriptor may be closed by now.
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            if let Some(program) = Self::parse(&text) {
                sum.nanoseconds += program.nanoseconds;
                sum.runs += program.runs;
            }
        }
        Ok(sum)
    }

    /// Reads one descriptor's lines; none if it is another kind of thing.
    fn parse(fdinfo: &str) -> Option<Self> {
        let value = |name: &str| {
            fdinfo.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .parse()
                    .ok()
            })
        };
        (value("prog_type")? == SK_REUSEPORT).then_some(())?;
        Some(Self {
            nanoseconds: value("run_time_ns")?,
            runs: value("run_cnt")?,
        })
    }

    /// The mean since an earlier reading; none if it has not run.
    pub(super) fn mean_since(self, before: Self) -> Option<f64> {
        let runs = self
            .runs
            .checked_sub(before.runs)
            .filter(|runs| *runs > 0)?;
        Some((self.nanoseconds - before.nanoseconds) as f64 / runs as f64)
    }
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// `BPF_PROG_TYPE_SK_REUSEPORT` (`include/uapi/linux/bpf.h`).
const SK_REUSEPORT: u64 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_this_kind_are_read() {
        let text = "pos:\t0\nprog_type:\t21\nprog_jited:\t1\nrun_time_ns:\t3000\nrun_cnt:\t20\n";
        let program = RunTime {
            nanoseconds: 3000,
            runs: 20,
        };
        assert_eq!(RunTime::parse(text), Some(program));
        assert_eq!(RunTime::parse(&text.replace("21", "1")), None);
        assert_eq!(RunTime::parse("pos:\t0\nflags:\t02\n"), None);
        assert_eq!(program.mean_since(RunTime::default()), Some(150.0));
        assert_eq!(program.mean_since(program), None);
    }
}
