//! The kernel tests: each checks one promise on real sockets, with real BPF, against clients that
//! count what they lose. See README.md in this folder.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod closing;
mod contract;
mod flip;
mod instruments;
mod peers;
mod steering;
