//! What is refused changes nothing.

use anyhow::{Result, ensure};
use synflip_bed::product::Agent;
use synflip_wire::ServiceStatus;

/// Checks a command's exit code and the cure that it names, and that nothing has changed.
pub(crate) fn refused(agent: &Agent, args: &[&str], text: &str) -> Result<()> {
    let before = agent.service()?;
    let cli = agent.cli(args)?;
    let told = cli.code == 1 && cli.stderr.contains(text) && cli.stdout.is_empty();
    ensure!(told, "{args:?}: {cli:?}");
    let after = agent.service()?;
    ensure!(same(&before, &after), "{args:?}: {before:#?}\n{after:#?}");
    Ok(())
}

/// Whether two looks at a service show the same but for its counters.
pub(crate) fn same(a: &ServiceStatus, b: &ServiceStatus) -> bool {
    let phases = |service: &ServiceStatus| -> Vec<_> {
        let generations = service.generations.iter();
        generations
            .map(|g| (g.name.clone(), g.phase, g.pids.clone()))
            .collect()
    };
    let timeline = a.timeline.len() == b.timeline.len();
    (a.epoch, &a.working, &a.previous) == (b.epoch, &b.working, &b.previous)
        && phases(a) == phases(b)
        && timeline
}
