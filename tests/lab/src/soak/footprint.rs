//! What does the agent hold, and does that grow?

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::world::{LISTENERS, World};
use synflip_bed::wait;

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
    pub(super) fn measure(world: &mut World<'_>) -> Result<Self> {
        // The agent has done all that it does at a flip at least once, as after a soak.
        for _ in 0..FLIPS {
            let to = world.start(LISTENERS)?;
            world.flip(to)?;
        }
        world.wait_alone()?;
        let service = world.service()?;
        let tombstones: usize = service
            .endpoints
            .iter()
            .map(|e| e.tombstones as usize)
            .sum();
        let (mut fds, mut times) = (0, 0);
        wait::until(
            "the agent's descriptors do not change",
            SETTLES_WITHIN,
            || {
                let now = world.agent.open_fds().unwrap_or(0);
                times = if now == fds { times + 1 } else { 0 };
                fds = now;
                times >= SETTLED
            },
        )?;
        Ok(Self {
            fds: fds - tombstones,
            rss_kib: world.agent.resident_kib()?,
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
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// So many milliseconds without a change.
const SETTLED: u32 = 200;

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
