//! One file for each decision. A test gives a state and a fact, and compares the exact list of
//! what is to be done.

mod build;
mod effects;
mod inputs;

mod drain;
mod flip;
mod joining;
mod readiness;
mod refused;
mod returning;
