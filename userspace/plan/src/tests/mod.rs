//! One file for each decision. A test gives a state and a fact, and compares the exact list of
//! what is to be done.

mod build;
mod effects;
mod inputs;

mod closing;
mod death;
mod drain;
mod flip;
mod goodbye;
mod host;
mod joining;
mod leaving;
mod limits;
mod missing;
mod readiness;
mod recovery;
mod refused;
mod release;
mod retire;
mod returning;
mod sound;
mod steps;
mod stuck;
mod unfinished;
