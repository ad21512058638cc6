//! Promise: a drain does not wait for what TCP_DEFER_ACCEPT keeps half-open until the client sends
//! data, for minutes if it does not, and a rollback finds the option as it was.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip::{Mode, Server};
use synflip_bed::{
    Family, Fixture, Network, Setup, defer_accept,
    network::{REQUEST, answered},
    note, set_defer_accept,
    wait::SOON,
};
use synflip_wire::Phase;

#[test]
fn a_deferred_handshake_does_not_pin_the_drain() -> Result<()> {
    Family::both(|family| {
        let fixture = Setup::new().family(family).start()?;
        let old = Deferring::start(&fixture)?;
        ensure!(old.seconds()? >= DEFER, "the option is off");
        fixture.wait_phase("gen1", Phase::Working)?;
        let _new = fixture.generation(2, &[])?;

        // There and back: the option is off while the generation drains or waits.
        let client = silent(&fixture.net)?;
        fixture.wait_pending("gen1", 0, 1)?;
        let drained = fixture
            .agent
            .flip_with("gen2", &["--keep", "--timeout", "60"])?;
        let after = drained.certificate()?.drained_after_ms;
        note(&format!("{family:?}: drained after {after:?} ms"));
        ensure!(old.seconds()? == 0, "on while the generation is kept");
        let back = fixture.agent.cli(&["rollback", "--keep", "--json"])?;
        ensure!(back.code == 0, "{back:?}");
        ensure!(old.seconds()? >= DEFER, "off after the rollback");
        let again = silent(&fixture.net)?;
        fixture.wait_pending("gen1", 0, 1)?;

        // For good: what was accepted without data is served when the data comes.
        fixture.agent.flip_with("gen2", &["--timeout", "60"])?;
        for mut client in [client, again] {
            client.write_all(REQUEST)?;
            let by = answered(client)?;
            ensure!(by == 1, "served by generation {by}");
        }
        fixture.check_steered(2)?;
        let served = old.finish()?;
        ensure!(served == 2, "{served} served");
        fixture.wait_gone("gen1").map(drop)
    })
}

#[test]
fn an_agent_that_comes_back_finds_the_option_as_it_was() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let old = Deferring::start(&fixture)?;
    fixture.wait_phase("gen1", Phase::Working)?;
    let seconds = old.seconds()?;
    ensure!(seconds >= DEFER, "the option is off");
    let _new = fixture.generation(2, &[])?;

    // It dies when the kernel follows the new table, and has not touched the old listeners.
    restart(&mut fixture, &DOOMED)?;
    fixture.agent.cli(&["flip", "--to", "gen2", "--keep"])?;
    fixture.agent.wait_death(SOON)?;
    ensure!(
        old.seconds()? == seconds,
        "the option was cleared before the agent died"
    );
    fixture.agent.restart_with(&fixture.net.server, &[])?;
    fixture.wait_phase("gen1", Phase::Standby)?;
    ensure!(old.seconds()? == 0, "the option is on during the drain");

    // One that has died since must not have forgotten what it was.
    restart(&mut fixture, &[])?;
    fixture.wait_phase("gen1", Phase::Standby)?;
    ensure!(old.seconds()? == 0, "the option is on in standby");
    let back = fixture.agent.cli(&["rollback", "--keep", "--json"])?;
    ensure!(back.code == 0, "{back:?}");
    ensure!(old.seconds()? == seconds, "{} s", old.seconds()?);

    // It dies again, and the way back is not finished.
    fixture.agent.flip_with("gen2", &["--keep"])?;
    restart(&mut fixture, &DOOMED)?;
    fixture.wait_phase("gen1", Phase::Standby)?;
    fixture.agent.cli(&["rollback", "--keep"])?;
    fixture.agent.wait_death(SOON)?;
    ensure!(old.seconds()? == 0, "the option was set before it died");
    restart(&mut fixture, &[])?;
    fixture.wait_phase("gen1", Phase::Working)?;
    ensure!(old.seconds()? == seconds, "{} s", old.seconds()?);
    Ok(())
}

/// Starts another agent, and waits until both generations are back.
fn restart(fixture: &mut Fixture, args: &[&str]) -> Result<()> {
    fixture.agent.restart_with(&fixture.net.server, args)?;
    fixture.wait_back(&["gen1", "gen2"]).map(drop)
}

/// A client that has connected and says nothing.
fn silent(net: &Network) -> Result<TcpStream> {
    let client = net.client.run(|| TcpStream::connect(net.address))?;
    client.set_read_timeout(Some(SOON))?;
    Ok(client)
}

/// A generation in this process, whose listeners defer.
struct Deferring {
    server: Server,
    accepting: Vec<JoinHandle<Result<u64>>>,
    /// The listeners once more, to look at their option.
    twins: Vec<TcpListener>,
}

impl Deferring {
    fn start(fixture: &Fixture) -> Result<Self> {
        let mut builder = Server::builder("web")
            .generation("gen1")
            .socket(fixture.agent.socket())
            .mode(Mode::Required);
        let mut twins = Vec::new();
        for _ in 0..2 {
            let net = &fixture.net;
            let listener = net.server.run(|| deferring(net.address))?;
            twins.push(listener.try_clone()?);
            builder = builder.adopt_listener(listener);
        }
        let server = builder.start()?;
        let accepting = server.listeners().into_iter().map(|listener| {
            thread::spawn(move || {
                let mut answering = Vec::new();
                for stream in &listener {
                    let (stream, _) = stream?;
                    answering.push(thread::spawn(move || answer(stream)));
                }
                let mut served = 0;
                for thread in answering {
                    thread
                        .join()
                        .map_err(|_panic| anyhow!("a thread has panicked"))??;
                    served += 1;
                }
                Ok(served)
            })
        });
        let accepting = accepting.collect();
        server.ready()?;
        Ok(Self {
            server,
            accepting,
            twins,
        })
    }

    /// The option's value, which is the same on all listeners.
    fn seconds(&self) -> Result<u32> {
        let mut all = self.twins.iter().map(defer_accept);
        let first = all.next().context("listeners")??;
        for other in all {
            ensure!(other? == first, "the listeners differ");
        }
        Ok(first)
    }

    /// Waits until the generation is over; returns how many connections it has served.
    fn finish(self) -> Result<u64> {
        drop(self.twins);
        let mut served = 0;
        for thread in self.accepting {
            served += thread
                .join()
                .map_err(|_panic| anyhow!("a thread has panicked"))??;
        }
        self.server.join();
        Ok(served)
    }
}

fn deferring(address: SocketAddr) -> Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    set_defer_accept(&socket, DEFER)?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut message = [0; 16];
    stream.read_exact(&mut message[..8])?;
    message[8] = 1;
    stream.write_all(&message)?;
    Ok(())
}

/// Longer than the test waits for the drain. The kernel rounds up to a number of retransmissions.
const DEFER: u32 = 180;
const DOOMED: [&str; 1] = ["--die-at=after-publish"];
