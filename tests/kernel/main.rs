//! The kernel tests: each checks one promise on real sockets, with real BPF, against clients that
//! count what they lose. See README.md in this folder.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod adoption;
mod closing;
mod contract;
mod death;
mod flip;
mod helpers;
mod instruments;
mod lifecycle;
mod misuse;
mod peers;
mod recovery;
mod steering;
