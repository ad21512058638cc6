//! What a server leaves that dies or closes too early, and who serves it.

mod half_open;
mod hold_time;
mod lent;
mod moves;
mod processes;
mod queued;
mod relayed;
mod store;
