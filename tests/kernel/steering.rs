//! The program follows the published table, and nothing else: without an agent, listener by
//! listener.

mod bench;

mod asked;
mod carried_over;
mod counters;
mod ended_listeners;
mod looks;
mod pins;
mod shares;
mod table;
