//! Promise: nothing is left of a service that is over.

use anyhow::{Result, ensure};
use synflip_bed::{Setup, wait::SOON};
use synflip_bpf::service_dir;

#[test]
fn an_agent_without_servers_holds_nothing() -> Result<()> {
    let fixture = Setup::new().agent_args(&["--hold", "1"]).start()?;
    let pins = service_dir(fixture.agent.bpffs(), "web");
    let fds = fixture.agent.settled_fds()?;
    for round in 0..2 {
        ensure!(!pins.exists(), "round {round}: pins without a service");
        let first = fixture.first(&[])?;
        let second = fixture.generation(2, &[])?;
        let load = fixture.net.load(8);
        load.more(100)?;
        fixture.agent.flip("gen2")?;
        first.wait_exit(SOON)?;
        load.finish_unharmed()?;
        ensure!(pins.exists(), "round {round}: no pins");
        second.stop()?;
        fixture.wait_over()?;
        let now = fixture.agent.settled_fds()?;
        ensure!(
            now == fds,
            "round {round}: {fds} descriptors before, {now} after"
        );
    }
    ensure!(!pins.exists(), "pins without a service");
    Ok(())
}
