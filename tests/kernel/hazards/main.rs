//! The hazards: states in which synflip was found to be worse than plain SO_REUSEPORT, each shown
//! from outside: by the command line, the control socket and clients.
//!
//! These tests know the programs only, no crate of the product, so that they run against those of
//! an earlier commit as well: `cargo xtask test hazards --against COMMIT`.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod black_box;
mod findings;
mod open;
mod verdict;

mod a01_dead_listener_keeps_the_address;
mod c01_exit_code_after_the_commit;
mod c02_owner_is_who_adopts;
mod c03_restart_with_two_capabilities;
mod c04_socket_is_roots_again;
mod c05_names_are_refused;
mod c06_flip_cannot_be_waited_for;
mod c07_adopted_server_does_not_close;
mod c08_deadline_blames_a_client;
mod c09_status_keeps_quiet;
mod c10_metrics_lack_what_matters;
mod c11_agent_starts_anywhere;
mod c12_custody_keeps_a_namespace;
mod c13_addresses_are_never_forgotten;
mod c14_one_worker_is_enough;
mod c15_adopt_returns_too_early;
mod c16_adopt_says_what_is_not_so;
