//! What every target here begins with: one test per promise, and what it has measured.

use std::io::{self, Write as _};

/// One test per line: each needs root and has namespaces of its own.
macro_rules! promises {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            if synflip_tests::privilege::root_or_skip() {
                super::$name().unwrap();
            }
        }
    )*};
}

/// Prints what was measured, whether or not the test passes.
pub(crate) fn note(measured: &str) {
    writeln!(io::stdout(), "{measured}").unwrap_or_default();
}
