//! Promise: what the kernel's own tests do to listeners, and what its rules allow anyone to do to
//! them, loses nothing.

#[path = "common/background.rs"]
mod background;
#[path = "scenarios/bare.rs"]
mod bare;
#[path = "scenarios/clients.rs"]
mod clients;
#[path = "scenarios/ends.rs"]
mod ends;
#[path = "common/fast_open.rs"]
mod fast_open;
#[path = "scenarios/full.rs"]
mod full;
#[path = "scenarios/groups.rs"]
mod groups;
#[path = "scenarios/moves.rs"]
mod moves;
#[path = "scenarios/paused.rs"]
mod paused;
#[path = "scenarios/points.rs"]
mod points;
#[path = "scenarios/replaced.rs"]
mod replaced;
#[path = "common/scene.rs"]
mod scene;

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use synflip_bed::Family;

/// Does the same over both families at one time: most of it is waiting.
fn both(f: impl Fn(Family) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let f = &f;
        let threads = Family::BOTH.map(|family| (family, scope.spawn(move || f(family))));
        threads.into_iter().try_for_each(|(family, thread)| {
            let result = thread.join().map_err(|_panic| anyhow!("panicked"));
            result.flatten().with_context(|| format!("{family:?}"))
        })
    })
}
