//! Which hazards are known to be there still? A test of one of these has to see it; whoever mends
//! it strikes it off here.

/// Their numbers.
#[rustfmt::skip]
pub(crate) const OPEN: &[&str] = &[
    "A10",
    "A13a",
    "A13b",
    "A17",
    "A25b",
    "B3",
    "B4",
    "B6",
    "C1",
    "C2",
    "C4",
    "C5",
    "C6",
    "C8",
    "C9",
    "C10",
    "C11",
    "C12",
    "C14",
    "C16",
];
