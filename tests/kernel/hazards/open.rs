//! Which hazards are known to be there still? A test of one of these has to see it; whoever mends
//! it strikes it off here.

/// Their numbers.
#[rustfmt::skip] // One on each line, so that branches merge.
pub(crate) const OPEN: &[&str] = &[
    "A1",
    "A8",
];
