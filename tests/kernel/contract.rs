//! The contract of the command line, and how the agent starts, stops and idles.

mod agent;
mod cost;
mod doctor;
mod exit_codes;
mod help;
mod output;

use anyhow::{Context as _, Result};
use serde_json::Value;
use synflip_bed::product::Cli;

/// The only JSON document on stdout.
fn document(cli: &Cli) -> Result<Value> {
    // Trailing bytes are an error.
    serde_json::from_str(&cli.stdout).with_context(|| format!("no single document: {cli:?}"))
}
