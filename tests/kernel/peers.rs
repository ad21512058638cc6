//! No peer of the control socket can hurt the agent, another service, or a client of it.

mod talk;
mod victim;

mod allowed;
mod bounds;
mod descriptors;
mod listeners;
mod messages;
mod patience;
mod requests;
mod versions;
