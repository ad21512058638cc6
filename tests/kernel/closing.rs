//! What is lost when listeners close?
//!
//! Only a flood of SYNs shows it: a connection's own retransmission would hide what was lost.

mod fleet;
mod restarts;

mod no_syn_is_lost;
