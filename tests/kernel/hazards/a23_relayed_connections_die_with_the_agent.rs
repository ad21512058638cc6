//! A23: connections that the agent relays die when it is stopped in order.

use std::{fs, io::Write as _, net::TcpStream};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use synflip_bed::{
    Setup,
    network::{REQUEST, answered},
    wait::{self, SECOND, SOON},
};

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a23_relayed_connections_die_with_an_orderly_stop_of_the_agent() -> Result<()> {
    hazard("A23", || {
        let mut fixture = Setup::new().agent_args(&["--no-migration"]).start()?;
        let spec = fixture.spec(1, 2).arg("--stop-accepting");
        let old = fixture.adopted(&spec)?;
        let address = fixture.net.address;
        let connect = || TcpStream::connect_timeout(&address, SOON);
        let clients = fixture.net.client.run(|| {
            let all: Result<Vec<_>, _> = (0..CLIENTS).map(|_| connect()).collect();
            all.context("connect")
        })?;
        let new = fixture.adopted(&fixture.spec(2, 2))?;
        // For each of them the agent connects to the server that lives.
        let sockets = format!("/proc/{}/fd", new.pid());
        let open = || fs::read_dir(&sockets).map_or(0, Iterator::count);
        let before = open();
        old.kill()?;
        fixture.agent.wait_works("gen2")?;
        wait::until("they come to gen2", SOON, || open() >= before + CLIENTS)?;
        fixture.agent.kill(Signal::TERM)?;
        let mut lost = 0;
        for mut client in clients {
            client.set_read_timeout(Some(5 * SECOND))?;
            let served = client.write_all(REQUEST).is_ok() && answered(client).is_ok();
            lost += usize::from(!served);
        }
        safe_if!(
            lost == 0,
            "{lost} of {CLIENTS} connections that were taken over die with the agent's stop"
        );
        Ok(Verdict::Safe)
    })
}

const CLIENTS: usize = 20;
