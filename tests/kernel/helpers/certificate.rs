//! What has to be in the certificate of a drain?

use anyhow::{Context as _, Result, bail, ensure};
use synflip_wire::{Certificate, DrainEnd};

/// What was queued and half-open on all listeners at the commit; none of them may have anything
/// any more.
pub(crate) fn at_commit(certificate: &Certificate) -> Result<(u64, u64)> {
    sum(certificate).with_context(|| format!("{certificate:?}"))
}

fn sum(certificate: &Certificate) -> Result<(u64, u64)> {
    ensure!(certificate.end == DrainEnd::Drained, "not drained");
    ensure!(certificate.drained_after_ms.is_some(), "drained, but when?");
    let mut sum = (0, 0);
    for listener in &certificate.listeners {
        let (Some(first), Some(last)) = (listener.steps.first(), listener.steps.last()) else {
            bail!("a listener without a reading");
        };
        let empty = last.is_empty() && listener.empty_after_ms.is_some();
        ensure!(empty, "a listener that is not empty");
        sum = (sum.0 + first.queued, sum.1 + first.half_open);
    }
    Ok(sum)
}
