//! C3: an agent that has what it needs cannot be restarted while a service lives.

use anyhow::Result;
use synflip_bed::Setup;

use crate::{
    black_box::{PATIENCE, ask, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c03_a_restart_needs_more_than_a_start() -> Result<()> {
    hazard("C3", || {
        let mut fixture = Setup::new().agent_least_privileged().start()?;
        let _server = first(&fixture, &[])?;
        if let Err(error) = fixture.restart_agent() {
            let log = fixture.agent.log();
            let last = log.lines().last().unwrap_or_default();
            // Whatever else keeps it from starting is not this hazard.
            let denied = ["not permitted", "denied", "CAP_"];
            if !denied.iter().any(|denied| last.contains(denied)) {
                return Err(error);
            }
            safe_if!(
                false,
                "with CAP_BPF and CAP_NET_ADMIN it starts, and while a service lives it does not \
                 start again: {last}"
            );
        }
        let answers = ask(&fixture.net, 4, PATIENCE)?;
        anyhow::ensure!(answers.lost() == 0, "{answers:?}");
        Ok(Verdict::Safe)
    })
}
