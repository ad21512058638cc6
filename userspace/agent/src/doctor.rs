//! What this kernel and this user can do, and what is missing.

use serde::Serialize;
use synflip_bpf::{Looker, Privilege, Variant, prepare_bpffs, probe};

use crate::{Config, error::chain, selftest, status};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The agent runs, with something less.
    Limited,
    /// The agent cannot run.
    Missing,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub found: String,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// In the order they were made; later ones are left out if an earlier one prevents them.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether the agent can run here.
    pub fn can_run(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.verdict != Verdict::Missing)
    }
}

/// Looks at this kernel and this process. Changes nothing but for mounting the BPF file system
/// if it is not there.
pub fn examine(config: &Config) -> Report {
    let mut checks = Vec::new();
    let mut add = |what, verdict, found: &str| {
        checks.push(Check {
            what,
            verdict,
            found: found.into(),
        });
        verdict != Verdict::Missing
    };
    let mut privileged = true;
    for privilege in Privilege::ALL {
        privileged &= match (privilege, privilege.is_held()) {
            (Privilege::Bpf, true) => add("CAP_BPF", Verdict::Ok, "held"),
            (Privilege::Bpf, false) => add("CAP_BPF", Verdict::Missing, "not held; run as root"),
            (Privilege::NetAdmin, true) => add("CAP_NET_ADMIN", Verdict::Ok, "held"),
            (Privilege::NetAdmin, false) => {
                add("CAP_NET_ADMIN", Verdict::Missing, "not held; run as root")
            }
            (Privilege::SysAdmin, true) => add("CAP_SYS_ADMIN", Verdict::Ok, "held"),
            (Privilege::SysAdmin, false) => add(
                "CAP_SYS_ADMIN",
                Verdict::Limited,
                "not held; servers in other network namespaces are refused, and services of \
                 synflip 0.1 are not carried over",
            ),
            (Privilege::PerfMon, true) => add("CAP_PERFMON", Verdict::Ok, "held"),
            (Privilege::PerfMon, false) => add(
                "CAP_PERFMON",
                Verdict::Limited,
                "not held; needed once after each boot, for cheap looks",
            ),
        };
    }
    if privileged {
        match prepare_bpffs(&config.bpffs) {
            Ok(()) => add(
                "bpf file system",
                Verdict::Ok,
                &config.bpffs.display().to_string(),
            ),
            Err(error) => add("bpf file system", Verdict::Missing, &chain(&error)),
        };
        match probe(&config.object) {
            Ok(found) => {
                add("BPF program", Verdict::Ok, found.variant.name());
                assumptions(config, found.variant, &mut add);
            }
            Err(error) => {
                add("BPF program", Verdict::Missing, &chain(&error));
            }
        }
    }
    Report {
        kernel: status::kernel_release(),
        checks,
    }
}

fn assumptions(
    config: &Config,
    variant: Variant,
    add: &mut impl FnMut(&'static str, Verdict, &str) -> bool,
) {
    let facts = match selftest::run(config, variant, Looker::load(&config.object)) {
        Ok(facts) => facts,
        Err(error) => {
            add("drain by refcnt", Verdict::Missing, &chain(&error));
            return;
        }
    };
    add(
        "drain by refcnt",
        Verdict::Ok,
        "1, 2, 1 on a private listener, as it must be",
    );
    match &facts.looker {
        Ok(_) => add(
            "cheap looks",
            Verdict::Ok,
            "an iterator visits a service's own listeners, and tells the same",
        ),
        Err(why) => add(
            "cheap looks",
            Verdict::Limited,
            &format!("{why}; {}", selftest::WITHOUT_LOOKER),
        ),
    };
    match (facts.migration, facts.migration_wakes) {
        (false, _) => add(
            "migration",
            Verdict::Limited,
            "not in this kernel (5.14 has it): a crashed server's queue is held for a successor",
        ),
        (true, Some(false)) => add(
            "migration",
            Verdict::Limited,
            "a connection moves, but its new listener is not woken; update the kernel",
        ),
        (true, _) => add(
            "migration",
            Verdict::Ok,
            "a queued connection moves and wakes its listener",
        ),
    };
}
