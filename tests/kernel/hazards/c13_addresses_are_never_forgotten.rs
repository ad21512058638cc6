//! C13: a service may have sixteen addresses in its life, and not one more.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use synflip_bed::Fixture;

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c13_sixteen_addresses_in_a_services_life() -> Result<()> {
    hazard("C13", || {
        let fixture = Fixture::new()?;
        let _first = fixture.adopted(&fixture.spec(1, 1))?;
        fixture.agent.wait_works("gen1")?;
        // Sixteen besides the one that it goes on with, one at a time.
        for number in 2..18_u16 {
            let ip = fixture.net.address.ip();
            let other = SocketAddr::new(ip, 5000 + number);
            let mut spec = fixture.spec(number.into(), 1);
            spec.listen = vec![other];
            let server = fixture.net.plain(&spec)?;
            let name = spec.name();
            let adopted = fixture.agent.adopt(server.pid(), &name, &[])?;
            if adopted.code != 0 {
                ensure!(adopted.stderr.contains("at most"), "{adopted:?}");
                safe_if!(
                    false,
                    "two addresses are in use, and after {} in its life a service gets no more: {}",
                    number - 1,
                    adopted.stderr.trim()
                );
            }
            let retire = ["retire", "--generation", &name];
            let retired = fixture.agent.tried(&retire)?;
            ensure!(retired.code == 0, "{retired:?}");
            server.kill()?;
            fixture.agent.wait_until("it is forgotten", |service| {
                service["generations"]
                    .as_array()
                    .is_some_and(|all| all.len() == 1)
            })?;
        }
        Ok(Verdict::Safe)
    })
}
