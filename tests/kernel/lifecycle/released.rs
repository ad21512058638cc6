//! Promise: a service can be given back to plain SO_REUSEPORT under load, and nothing is lost.

use anyhow::{Result, ensure};
use synflip_bed::{
    Family, Setup,
    product::Spec,
    wait::{self, SOON},
};
use synflip_bpf::service_dir;

#[test]
fn a_released_service_is_plain_and_loses_nothing() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let first = fixture.first(&[])?;
        let server = fixture.generation(2, &[])?;
        let load = fixture.net.load(8);
        load.more(100)?;
        let refused = fixture.agent.cli(&["release", "web"])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("gen2 is there besides"),
            "{refused:?}"
        );
        // On IPv6 the old generation leaves a tombstone.
        fixture.agent.flip("gen2")?;
        first.wait_exit(SOON)?;
        fixture.wait_gone("gen1")?;
        load.more(100)?;
        fixture.agent.succeed(&["release", "web"])?;
        load.more(100)?;
        load.finish_unharmed()?;
        wait::until("the service is over", SOON, || {
            fixture
                .agent
                .status()
                .is_ok_and(|status| status.services.is_empty())
        })?;
        ensure!(
            !service_dir(fixture.agent.bpffs(), "web").exists(),
            "pins are left"
        );

        // The kernel's hash goes over all who listen.
        let plain = fixture.net.plain(&fixture.spec(9, 2))?;
        let answers = fixture.net.answers(60)?;
        ensure!(
            answers.contains(&2) && answers.contains(&9),
            "not by the hash: {answers:?}"
        );
        // The next that is started is steered as ever.
        let spec = Spec {
            without_agent: true,
            ..fixture.spec(3, 2)
        };
        let _next = fixture.start(&spec)?;
        fixture.wait_works("gen3")?;
        let answers = fixture.net.answers(20)?;
        ensure!(answers == [3; 20], "{answers:?}");
        plain.stop()?;
        server.stop()?;
        fixture.net.answers(20).map(drop)
    })
}
