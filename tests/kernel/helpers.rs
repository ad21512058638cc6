//! What several tests need beyond the test bed.

pub(crate) mod at_once;
pub(crate) mod bare;
pub(crate) mod certificate;
pub(crate) mod points;
pub(crate) mod refused;
pub(crate) mod restarts;

use synflip_wire::ServiceStatus;

/// Both ways to rescue a queue, whatever this kernel can do.
pub(crate) const REGIMES: [&[&str]; 2] = [&[], &["--no-migration"]];

/// Whether the last table has so many listeners.
pub(crate) fn works_with(service: &ServiceStatus, listeners: usize) -> bool {
    let entries = service.timeline.iter().rev();
    let last = entries
        .map(|entry| &entry.what)
        .find(|what| what.starts_with("works with"));
    last.is_some_and(|what| *what == format!("works with {listeners} listeners now"))
}
