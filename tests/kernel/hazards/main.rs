//! The hazards: states in which synflip was found to be worse than plain SO_REUSEPORT, each shown
//! from outside: by the command line, the control socket and clients.
//!
//! These tests know the programs only, and of the product's crates no more than how descriptors
//! are passed, so that they run against the programs of an earlier commit as well:
//! `cargo xtask test hazards --against COMMIT`.
//!
//! The numbers are those of the list that was made of 0.1.0. These entries of it have no test:
//!
//! * A14, a drain ends before the server has read what it accepted: what is lost is lost by the way
//!   in which an HTTP server closes idle connections, so it takes such a server to show it.
//! * A26, without migration a closing listener loses a SYN now and then (three in 150 kills of the
//!   agent): too seldom for a test that must see it. `closing` counts what a flood loses; A10 is
//!   the case of it that can be had at will.
//! * D1, one release beside another on the control socket: 0.1.0 and what came after it cannot be
//!   mixed, and are told so; `kernel/peers/versions.rs` and `synflip`'s own tests show that what
//!   says hello can be.
//! * D2, one version of the pins beside another: A7 shows what an agent makes of another one's, and
//!   `kernel/carry_over` that one of 0.1.0 loses nothing.

#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod bare;
mod black_box;
mod findings;
mod open;
mod peer;
mod verdict;

mod a01_dead_listener_keeps_the_address;
mod a02_two_services_in_one_group;
mod a03_leaving_closes_what_others_left;
mod a04_missing_endpoint_blocks_everything;
mod a05_new_endpoint_takes_traffic;
mod a06_restart_loses_living_servers;
mod a07_another_version_forgets_who_works;
mod a08_closed_listener_keeps_its_share;
mod a09_detached_program;
mod a10_refused_listener_loses_syns;
mod a11_parked_request_pins_a_drain;
mod a12_stop_is_worse_than_kill;
mod a13_unready_first_generation;
mod a15_listener_without_accept_loop;
mod a16_registration_that_fails_half_way;
mod a17_forked_children_accept;
mod a18_drained_adopted_server_is_no_way_back;
mod a19_adopted_server_closes_some_listeners;
mod a20_old_server_closes_before_the_flip;
mod a21_master_dies_workers_accept;
mod a22_adopted_server_after_agent_restart;
mod a23_relayed_connections_die_with_the_agent;
mod a24_tombstone_without_the_program;
mod a25_old_server_is_not_taken_over;
mod b01_zombie;
mod b02_one_descriptor_freezes_it;
mod b03_lock_of_any_user;
mod b04_no_quota;
mod b05_failed_publication_is_repeated_at_once;
mod b06_status_shows_everything;
mod b07_established_connections_cost;
mod b08_as_many_generations_as_there_may_be;
mod b09_foreign_pins;
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
