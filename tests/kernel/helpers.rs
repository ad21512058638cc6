//! What several tests need beyond the test bed.

pub(crate) mod bare;
pub(crate) mod certificate;
pub(crate) mod fast_open;
pub(crate) mod refused;
pub(crate) mod restarts;
