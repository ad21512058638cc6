//! Which hazards are known to be there still? A test of one of these has to see it; whoever mends
//! it strikes it off here.

/// Their numbers.
pub(crate) const OPEN: &[&str] = &[
    "A1", "A2", "A3", "A4a", "A4b", "A4c", "A4d", "A5", "A6", "A8", "A9", "A11", "A12", "A13a",
    "A13b", "A15", "A16", "A17", "A18", "A19", "A20", "A21", "A22", "A23", "A24", "A25", "B1",
    "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9",
];
