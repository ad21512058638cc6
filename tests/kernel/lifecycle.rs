//! What the agent knows of generations, and what it says of them.

mod named;
mod over;
mod ready;
mod released;
mod returns;
mod timeline;
