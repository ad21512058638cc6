//! TCP_DEFER_ACCEPT keeps a handshake half-open until the client sends data, for minutes if it
//! does not: a drain must not wait for that, and a rollback must find the option as it was.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip::{Mode, Server};
use synflip_bed::{Family, defer_accept, note, set_defer_accept, wait};
use synflip_wire::Phase;

use crate::scene::{REQUEST, SOON, Scene, generation};

fn a_deferred_handshake_does_not_pin_the_drain() -> Result<()> {
    for family in Family::BOTH {
        let scene = Scene::new(family, &[])?;
        let old = Deferring::start(&scene)?;
        ensure!(old.seconds()? >= DEFER, "the option is off");
        scene.wait_phase("gen1", Phase::Working)?;
        let _new = scene.start(&scene.spec(2, 2))?;

        // There and back: the option is off while the generation drains or waits.
        let client = scene.netns.run(|| TcpStream::connect(scene.to))?;
        scene.wait_pending("gen1", 0, 1)?;
        let drained = scene
            .agent
            .flip_with("gen2", &["--keep", "--timeout", "60"])?;
        let certificate = drained.drain.context("no certificate")?;
        note(&format!(
            "{family:?}: drained after {:?} ms",
            certificate.drained_after_ms
        ));
        ensure!(
            old.seconds()? == 0,
            "the option is on while the generation is kept"
        );
        let back = scene.agent.cli(&["rollback", "--keep", "--json"])?;
        ensure!(back.code == 0, "{back:?}");
        ensure!(
            old.seconds()? >= DEFER,
            "the rollback has not restored the option"
        );
        let again = scene.netns.run(|| TcpStream::connect(scene.to))?;
        scene.wait_pending("gen1", 0, 1)?;

        // For good: what was accepted without data is served when the data comes.
        scene.agent.flip_with("gen2", &["--timeout", "60"])?;
        for client in [client, again] {
            let by = ask(client)?;
            ensure!(by == 1, "served by generation {by}");
        }
        scene.check_steered(2)?;
        let served = old.finish()?;
        ensure!(served == 2, "{served} served");
        scene.wait_gone("gen1")?;
    }
    Ok(())
}

fn an_agent_that_comes_back_finds_the_option_as_it_was() -> Result<()> {
    let mut scene = Scene::new(Family::V4, &[])?;
    let old = Deferring::start(&scene)?;
    scene.wait_phase("gen1", Phase::Working)?;
    let seconds = old.seconds()?;
    ensure!(seconds >= DEFER, "the option is off");
    let _new = scene.start(&scene.spec(2, 2))?;

    // It dies when the kernel follows the new table, and has not touched the old listeners.
    let doomed = ["--die-at=after-publish"];
    scene.agent.restart_with(&scene.netns, &doomed)?;
    both_back(&scene)?;
    scene.agent.cli(&["flip", "--to", "gen2", "--keep"])?;
    scene.agent.wait_death(SOON)?;
    ensure!(
        old.seconds()? == seconds,
        "the option was cleared before the agent died"
    );
    scene.agent.restart_with(&scene.netns, &[])?;
    scene.wait_phase("gen1", Phase::Standby)?;
    ensure!(old.seconds()? == 0, "the option is on during the drain");

    // One that has died since must not have forgotten what it was.
    scene.agent.restart(&scene.netns)?;
    both_back(&scene)?;
    scene.wait_phase("gen1", Phase::Standby)?;
    ensure!(old.seconds()? == 0, "the option is on in standby");
    let back = scene.agent.cli(&["rollback", "--keep", "--json"])?;
    ensure!(back.code == 0, "{back:?}");
    ensure!(old.seconds()? == seconds, "{} s", old.seconds()?);

    // It dies again, and the way back is not finished.
    let doomed = ["--die-at=after-publish"];
    scene.agent.flip_with("gen2", &["--keep"])?;
    scene.agent.restart_with(&scene.netns, &doomed)?;
    both_back(&scene)?;
    scene.wait_phase("gen1", Phase::Standby)?;
    scene.agent.cli(&["rollback", "--keep"])?;
    scene.agent.wait_death(SOON)?;
    ensure!(old.seconds()? == 0, "the option was set before it died");
    scene.agent.restart_with(&scene.netns, &[])?;
    scene.wait_phase("gen1", Phase::Working)?;
    both_back(&scene)?;
    ensure!(old.seconds()? == seconds, "{} s", old.seconds()?);
    Ok(())
}

/// Waits until two generations are back, and ready.
fn both_back(scene: &Scene) -> Result<()> {
    wait::until("both are back", SOON, || {
        let all = scene.agent.service().map(|service| service.generations);
        let mut all = all.unwrap_or_default().into_iter();
        all.len() == 2 && all.all(|g| !g.pids.is_empty() && g.phase != Phase::Registered)
    })
    .with_context(|| scene.agent.log())
}

fn ask(mut client: TcpStream) -> Result<u32> {
    client.set_read_timeout(Some(SOON))?;
    client.write_all(REQUEST)?;
    let mut answer = [0; 16];
    client.read_exact(&mut answer).context("read the answer")?;
    generation(&answer)
}

/// A generation in this process, whose listeners defer.
struct Deferring {
    server: Server,
    accepting: Vec<JoinHandle<Result<u64>>>,
    /// The listeners once more, to look at their option.
    twins: Vec<TcpListener>,
}

impl Deferring {
    fn start(scene: &Scene) -> Result<Self> {
        let mut builder = Server::builder("web")
            .generation("gen1")
            .socket(scene.agent.socket())
            .mode(Mode::Required);
        let mut twins = Vec::new();
        for _ in 0..2 {
            let listener = scene.netns.run(|| deferring(scene.to))?;
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
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
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

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_deferred_handshake_does_not_pin_the_drain
        an_agent_that_comes_back_finds_the_option_as_it_was
    }
}
