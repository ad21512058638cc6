//! What becomes of a service while its agent dies and comes back.

mod agent_killed;
mod every_point;
mod memory;
mod pins;
mod random_moments;
