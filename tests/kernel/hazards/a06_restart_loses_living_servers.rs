//! A6: an agent that restarts with systemd's descriptor store takes living servers for dead ones.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{
    Setup,
    product::Store,
    wait::{self, SECOND},
};

use crate::{
    black_box::{Operate as _, PATIENCE, ask, works},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a06_a_restart_loses_living_servers() -> Result<()> {
    hazard("A6", || {
        let store = Arc::new(Store::new()?);
        let setup = Setup::new().agent_args(&["--hold", "2"]).store(&store);
        let mut fixture = setup.start()?;
        let _old = fixture.adopted(&fixture.spec(1, 2))?;
        fixture.agent.wait_works("gen1")?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        let before = ask(&fixture.net, 20, PATIENCE)?;
        ensure!(before.from(1) == 20, "{before:?}");
        fixture.agent.kill(Signal::KILL)?;
        fixture.restart_agent()?;
        wait::pause(4 * SECOND);
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        let service = fixture.agent.look()?;
        safe_if!(
            answers.from(1) == 20 && works(&service, "gen1"),
            "the adopted gen1 lives: after a restart of the agent {} of 20 clients go to gen2, \
             which nobody has flipped to, and {} are lost",
            answers.from(2),
            answers.lost()
        );
        Ok(Verdict::Safe)
    })
}
