//! Tests by the names of the promises that they check.

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
