//! The lab: what measures the product and shows it. README.md says what a result means.
//!
//! * [`demo`]: the demonstration: generations flipped under load, and what each client saw
//! * [`soak`]: faults of every kind under load
//! * [`mod@bench`]: measurements, each of two things beside each other
//!
//! All of them stand on [`synflip_bed::Setup`]. Beside it they share the load generator as a
//! process (`generator`), and how a program is told what to do and how it ends (`command`).

#![forbid(unsafe_code)]

pub mod bench;
mod command;
pub mod demo;
mod generator;
pub mod soak;
