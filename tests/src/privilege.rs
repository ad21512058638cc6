//! May this process make namespaces and load BPF programs?

use std::{
    env,
    io::{self, Write as _},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// True for root. Otherwise says that the test is skipped, and why.
///
/// # Panics
///
/// Without root if `CI=true`: there, a test which does not run must not pass.
#[must_use]
pub fn root_or_skip() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        env::var_os("CI").is_none_or(|ci| ci != "true"),
        "needs root, and CI has it"
    );
    // Not println!, which the test harness hides when a test passes.
    writeln!(io::stdout(), "skipped: needs root").unwrap_or_default();
    false
}

/// Raises this process's limit of open files, and so that of its children, as far as it may:
/// many hosts start with 1024, which is little for many clients.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused, only what needs very many fails, and says why.
    setrlimit(Resource::Nofile, all).unwrap_or_default();
}
