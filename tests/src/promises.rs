//! What does a test begin with? The name of the promise that it checks.

use std::io::{self, Write as _};

/// Tests by the names of the promises that they check, one per line.
///
/// For a module inside the one with the functions: each returns a [`anyhow::Result`], and has
/// namespaces of its own. Each needs root.
#[macro_export]
macro_rules! promises {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            if $crate::privilege::root_or_skip() {
                $crate::privilege::raise_file_limit();
                super::$name().unwrap();
            }
        }
    )*};
}

/// Prints what was measured, whether or not the test passes.
pub fn note(measured: &str) {
    // Not println!, which the test harness hides when a test passes.
    writeln!(io::stdout(), "{measured}").unwrap_or_default();
}
