//! The hazards: states in which synflip was found to be worse than plain SO_REUSEPORT, each shown
//! from outside: by the command line, the control socket and clients.
//!
//! These tests know the programs only, no crate of the product, so that they run against those of
//! an earlier commit as well: `cargo xtask test hazards --against COMMIT`.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod bare;
mod black_box;
mod open;
mod peer;
mod verdict;

mod a01_dead_listener_keeps_the_address;
mod a08_closed_listener_keeps_its_share;
