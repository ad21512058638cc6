//! How tests are run, and what a virtual machine and its host tell each other about that.
//!
//! The host gives a machine a [`Plan`], as `/plan.json` in its initramfs. The machine answers over
//! its second serial port: one [`Event`] a line, as JSON, which [`Progress`] follows from
//! [`Event::Booted`] to [`Event::Done`] or [`Event::Failed`].
//!
//! A [`Job`] is [`run`] by the same code on both sides; only how a process is waited for is not
//! the same, because PID 1 has orphans to collect ([`Wait`]).

#![forbid(unsafe_code)]

mod event;
mod job;
mod leftovers;
mod progress;
mod queue;
mod run;

pub use event::{End, Ended, Event};
pub use job::{Job, Plan};
pub use leftovers::{MARK, kill_marked, mark, marks_of};
pub use progress::{Progress, Ran, State};
pub use queue::{all, each};
pub use run::{Direct, Wait, run};

/// The environment variable that names the file in which a test says what it misses, if it skips
/// itself: a test that has nothing to do can only pass.
pub const SKIPPED: &str = "SYNFLIP_SKIPPED";
