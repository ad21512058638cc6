//! At which moments? At random ones, which can be had again.

use std::env;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{capability::release, note};

/// Runs `f` with randomness from the seed in SYNFLIP_SEED, or from a new one, and prints it.
///
/// # Errors
///
/// Those of `f`, with the seed; and when SYNFLIP_SEED is no number.
pub fn with_seed<T>(f: impl FnOnce(&mut SmallRng) -> Result<T>) -> Result<T> {
    let seed = match env::var("SYNFLIP_SEED") {
        Ok(seed) => seed.parse().context("SYNFLIP_SEED is no number")?,
        Err(_) => rand::rng().random(),
    };
    note(&format!("SYNFLIP_SEED={seed}"));
    f(&mut SmallRng::seed_from_u64(seed))
        .with_context(|| format!("SYNFLIP_SEED={seed} on Linux {}", release()))
}
