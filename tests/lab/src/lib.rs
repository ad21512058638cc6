//! The lab: what measures the product and shows it.
//!
//! * [`demo`]: the demonstration: generations flipped under load, and what each client saw
//! * [`soak`]: faults of every kind under load
//! * [`mod@bench`]: measurements, each of two things beside each other

#![forbid(unsafe_code)]

pub mod bench;
mod command;
pub mod demo;
mod generator;
pub mod soak;
