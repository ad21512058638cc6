//! Which hazards are known to be there still? A test of one of these has to see it; whoever mends
//! it strikes it off here.

/// Their numbers.
#[rustfmt::skip] // One on each line, so that branches merge.
pub(crate) const OPEN: &[&str] = &[
    "A1",
    "A2",
    "A3",
    "A4a",
    "A4b",
    "A4c",
    "A4d",
    "A5",
    "A6",
    "A7",
    "A8",
    "A9",
    "A10",
    "A11",
    "A12",
    "A13a",
    "A13b",
];
