/// The IP version a test runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both versions, for tests which must hold for each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}
