//! What does the agent hold, and does that grow?

use anyhow::Result;
use serde::Serialize;

use super::servers::{LISTENERS, Servers};

/// What an agent holds while one generation with [`LISTENERS`] listeners works and nothing
/// happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Footprint {
    /// Its descriptors, without those of listeners that it keeps as tombstones: whether there is
    /// one is a matter of the order in a hash bucket.
    pub(super) fds: usize,
    /// Its resident memory.
    pub(super) rss_kib: u64,
}

impl Footprint {
    /// Brings the service into the shape in which agents can be compared, and measures.
    pub(super) fn measure(servers: &mut Servers<'_>) -> Result<Self> {
        // The agent has done all that it does at a flip at least once, as after a soak.
        for _ in 0..FLIPS {
            let to = servers.add(LISTENERS)?;
            servers.flip(to)?;
        }
        servers.wait_alone()?;
        let agent = &servers.fixture.agent;
        let endpoints = agent.service()?.endpoints;
        let tombstones: usize = endpoints.iter().map(|e| e.tombstones as usize).sum();
        Ok(Self {
            fds: agent.settled_fds()? - tombstones,
            rss_kib: agent.resident_kib()?,
        })
    }

    /// What has grown more than it may, since `before`.
    pub(super) fn growth(self, before: Self) -> Option<String> {
        if self.fds != before.fds {
            return Some(format!(
                "the agent has {} descriptors and had {}",
                self.fds, before.fds
            ));
        }
        let bound = before.rss_kib + before.rss_kib / 4;
        (self.rss_kib > bound).then(|| {
            format!(
                "the agent has {} KiB of memory and had {}",
                self.rss_kib, before.rss_kib
            )
        })
    }
}

const FLIPS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_must_be_as_they_were_and_memory_almost() {
        let before = Footprint {
            fds: 20,
            rss_kib: 8000,
        };
        let with = |fds, rss_kib| Footprint { fds, rss_kib }.growth(before);
        assert_eq!(with(20, 10_000), None);
        assert_eq!(with(20, 4000), None);
        assert!(with(20, 10_001).is_some());
        assert!(with(21, 8000).is_some() && with(19, 8000).is_some());
    }
}
