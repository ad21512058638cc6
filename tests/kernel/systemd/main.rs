//! The product as a service: with the real systemd, its units, its journal and its descriptor
//! store, which other tests imitate.
//!
//! These tests run as one of the units of a virtual machine (`vm-images/systemd`), and have all
//! of it: `cargo xtask test systemd`.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod machine;
mod unit;

mod deaths;
mod deploy;
mod restarts;
