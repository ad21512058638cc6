//! A server that has lost its connection to the agent, and not its listeners.

use std::{
    net::{Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_wire::{Client, ListenerSpec, Register, Reply, Request};

use crate::bed::{Bed, SOON, find};

fn a_server_comes_back_to_its_listeners_whatever_became_of_them() -> Result<()> {
    let bed = Bed::new()?;
    // On IPv6 the oldest listener is the first of its hash bucket, and becomes a tombstone.
    let first = listener(&bed, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))?;
    let address = first.local_addr()?.as_socket().context("no IP address")?;
    let own = [first, listener(&bed, address)?];
    let others = [listener(&bed, address)?, listener(&bed, address)?];
    let mut process = join(&bed, address, &own)?;
    let mut sibling = join(&bed, address, &others)?;
    ready(&mut process)?;
    ready(&mut sibling)?;
    bed.until("both work", |service| {
        let listeners = find(service, "a").map(|generation| generation.listeners.len());
        listeners == Some(4) && service.timeline.iter().any(|e| e.what.contains("with 4"))
    })?;

    for round in 0..3 {
        drop(process);
        bed.until("its listeners are out of use", |service| {
            let listeners = find(service, "a").map(|generation| generation.listeners.len());
            listeners == Some(2) && service.endpoints[0].tombstones == 1
        })
        .with_context(|| format!("round {round}"))?;
        process = join(&bed, address, &own).with_context(|| format!("round {round}"))?;
        ready(&mut process)?;
        let status = bed.until("it works again", |service| {
            let last = service
                .timeline
                .iter()
                .rev()
                .find(|e| e.what.starts_with("works with"));
            last.is_some_and(|entry| entry.what.contains("with 4"))
        })?;
        ensure!(status.endpoints[0].tombstones == 0, "{status:#?}");
        let clients: Vec<TcpStream> = bed.netns.run(|| -> Result<_> {
            (0..60)
                .map(|_| TcpStream::connect_timeout(&address, SOON).context("connect"))
                .collect()
        })?;
        let accepted = own
            .iter()
            .chain(&others)
            .map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
        let accepted: Vec<usize> = accepted.collect();
        ensure!(
            accepted.iter().all(|count| *count > 0),
            "round {round}: {accepted:?}"
        );
        ensure!(
            accepted.iter().sum::<usize>() == 60,
            "round {round}: {accepted:?}"
        );
        drop(clients);
    }
    bed.agent.check_counters()
}

fn listener(bed: &Bed, address: SocketAddr) -> Result<Socket> {
    bed.netns.run(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(128)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

fn join(bed: &Bed, address: SocketAddr, sockets: &[Socket]) -> Result<Client> {
    let mut client = Client::connect(&bed.agent.socket())?;
    let request = Request::Register(Register {
        service: "web".parse()?,
        generation: Some("a".parse()?),
        listeners: sockets.iter().map(|_| ListenerSpec { address }).collect(),
    });
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    client.send(&request, &fds)?;
    let reply = client.receive(Some(SOON))?;
    ensure!(matches!(reply, Reply::Registered { .. }), "{reply:?}");
    Ok(client)
}

fn ready(client: &mut Client) -> Result<()> {
    client.send(&Request::Ready, &[])?;
    while client.receive(Some(SOON))? != Reply::Done {}
    Ok(())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_server_comes_back_to_its_listeners_whatever_became_of_them
    }
}
