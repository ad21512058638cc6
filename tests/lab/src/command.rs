//! What the commands have in common: the demonstration, the measurements, the soak.
//!
//! * how they are told what to do, what they need, and how they end: `parse`, `requirements`,
//!   `failure`, `interrupt`
//! * what they show, and where their results go: `screen`, `format`, `output`

mod failure;
pub(crate) mod format;
mod interrupt;
mod output;
pub(crate) mod parse;
mod requirements;
mod screen;

pub(crate) use failure::{Failure, exit_code, usage};
pub(crate) use format::{median_and_max, ms, table};
pub(crate) use interrupt::Interrupt;
pub(crate) use output::Output;
pub(crate) use requirements::{kernel, missing};
pub(crate) use screen::Screen;
