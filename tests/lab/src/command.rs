//! What the commands have in common: the demonstration, the measurements, the soak.
//!
//! * how they are told what to do, what they need, and how they end: `run`, `common`, `parse`,
//!   `requirements`, `failure`, `interrupt`
//! * what they show, and where their results go: `screen`, `format`, `connections`, `output`

mod common;
mod connections;
mod failure;
pub(crate) mod format;
mod interrupt;
mod output;
mod parse;
mod requirements;
mod run;
mod screen;

pub(crate) use common::Common;
pub(crate) use connections::Connections;
pub(crate) use failure::Failure;
pub(crate) use format::{count, median_and_max, ms, table};
pub(crate) use interrupt::Interrupt;
pub(crate) use output::Output;
pub(crate) use run::{main, measured};
pub(crate) use screen::Screen;
