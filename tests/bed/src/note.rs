//! What does a test say besides whether it has passed?

use std::io::{self, Write as _};

/// Prints what was measured, whether or not the test passes.
pub fn note(measured: &str) {
    // Not println!, which the test harness hides when a test passes.
    writeln!(io::stdout(), "{measured}").unwrap_or_default();
}
