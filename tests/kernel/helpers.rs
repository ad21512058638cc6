//! What several tests need beyond the test bed.

pub(crate) mod at_once;
pub(crate) mod bare;
pub(crate) mod fast_open;
pub(crate) mod points;
pub(crate) mod refused;

/// Both ways to rescue a queue, whatever this kernel can do.
pub(crate) const REGIMES: [&[&str]; 2] = [&[], &["--no-migration"]];
