//! What became of the connections, as scripts read it.

use serde::Serialize;
use synflip_bed::load::Report;

/// `lost` is `reset + refused + timeout`.
#[derive(Serialize)]
pub(crate) struct Connections {
    pub(crate) ok: u64,
    pub(crate) lost: u64,
    /// Accepted by a server that was killed before it had answered; not lost, where servers were
    /// killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) died_in_service: Option<u64>,
    pub(crate) reset: u64,
    pub(crate) refused: u64,
    pub(crate) timeout: u64,
    /// Those of `timeout` that had a handshake.
    stalled: u64,
}

impl Connections {
    pub(crate) const fn new(report: &Report, died_in_service: Option<u64>) -> Self {
        Self {
            ok: report.ok,
            lost: report.lost,
            died_in_service,
            reset: report.reset,
            refused: report.refused,
            timeout: report.timeout,
            stalled: report.stalled,
        }
    }
}
