//! Promise: the agent of this release takes the services of 0.1.0 over while they work, and no
//! connection is lost. With the programs of that release, built from its commit:
//! `cargo xtask test carry-over`.
//!
//! That agent's servers speak version 1 of the control protocol: the new agent refuses them, knows
//! them by its predecessor's notes, and treats them as adopted.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod deaths;
mod release;
mod status;
mod upgrade;
