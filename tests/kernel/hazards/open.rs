//! Which hazards are known to be there still? A test of one of these has to see it; whoever mends
//! it strikes it off here.

/// Their numbers.
#[rustfmt::skip] // One on each line, so that branches merge.
pub(crate) const OPEN: &[&str] = &[
    "A1",
    "C1",
    "C2",
    "C3",
    "C4",
    "C5",
    "C6",
    "C7",
    "C8",
    "C9",
    "C10",
    "C11",
    "C12",
    "C13",
    "C14",
    "C15",
    "C16",
];
