//! May this process make namespaces and load BPF programs?

use std::{
    env,
    io::{self, Write as _},
};

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
