//! A successor dies with a dead server's queue in its hands.

use std::{net::TcpListener, os::fd::AsFd as _};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use synflip_wire::{Client, ListenerSpec, Register, Reply, Request};

use crate::bed::{ADDRESS, Bed, SOON, answers, find};

/// A generation that this test plays, on a connection of its own.
struct Successor {
    client: Client,
    _own: TcpListener,
}

impl Successor {
    /// Registers as gen2, ready.
    fn new(bed: &Bed) -> Result<Self> {
        let own = bed.netns.run(listener)?;
        let mut client = Client::connect(&bed.agent.socket())?;
        let register = Request::Register(Register {
            service: "web".parse()?,
            generation: Some("gen2".parse()?),
            listeners: vec![ListenerSpec { address: ADDRESS }],
        });
        client.send(&register, &[own.as_fd()])?;
        let reply = client.receive(Some(SOON))?;
        ensure!(matches!(reply, Reply::Registered { .. }), "{reply:?}");
        let reply = client.ask(&Request::Ready, SOON)?;
        ensure!(reply == Reply::Done, "{reply:?}");
        Ok(Self { client, _own: own })
    }

    /// Waits until it has been lent a number of listeners.
    fn lent(&mut self, count: usize) -> Result<Vec<TcpListener>> {
        let mut lent = Vec::new();
        while lent.len() < count {
            match self.client.receive_with_fds(Some(SOON))? {
                (Reply::Queue { address, .. }, fds) => {
                    ensure!(address == ADDRESS && fds.len() == 1, "{address}: {fds:?}");
                    lent.extend(fds.into_iter().map(TcpListener::from));
                }
                (Reply::Event(_), _) => {}
                (other, _) => anyhow::bail!("{other:?}"),
            }
        }
        Ok(lent)
    }
}

fn what_was_lent_to_one_that_dies_goes_to_the_next_or_waits_for_it() -> Result<()> {
    for next_is_there in [true, false] {
        let bed = Bed::new()?;
        let first = bed.first(&["--stop-accepting"])?;
        let mut waiting = bed.clients(20)?;
        // The newest that is ready succeeds.
        let mut next = None;
        if next_is_there {
            next = Some(bed.generation(3, &[])?);
        }
        let mut second = Successor::new(&bed)?;
        first.signal(Signal::KILL)?;
        let lent = second.lent(2)?;
        // Some come to its own listener, which it does not look at.
        waiting.extend(bed.clients(5)?);
        if !next_is_there {
            let status = bed.agent.service()?;
            let queued = |name| -> Option<u64> {
                let listeners = find(&status, name)?.listeners.iter();
                listeners.map(|listener| listener.queued).sum()
            };
            ensure!(queued("gen1") == Some(20), "{status:#?}");
            ensure!(queued("gen2") == Some(5), "{status:#?}");
        }
        // It has taken one, and is dead before it says anything.
        let taken = lent.iter().find_map(|listener| listener.accept().ok());
        drop((second, lent));
        let third = match next {
            Some(next) => next,
            None => bed.generation(3, &[])?,
        };
        drop(taken);
        let mut answered = 0;
        for client in waiting {
            // Who has been accepted dies with whom it was accepted by.
            answered += answers(vec![client]).map_or(0, |by| usize::from(by == [3]));
        }
        ensure!(answered == 24, "{answered} of 24\n{}", bed.agent.log());
        // Nothing is waited for any more from those who are dead.
        bed.until("only the third is left", |s| s.generations.len() == 1)?;
        drop(third);
        bed.agent.check_counters()?;
    }
    Ok(())
}

fn listener() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&ADDRESS.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        what_was_lent_to_one_that_dies_goes_to_the_next_or_waits_for_it
    }
}
