//! Descriptors that are no listeners which can be steered, each with what is wrong with it.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{Uid, fchown},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bed::{Netns, capability::needs};
use synflip_wire::{Client, ErrorCode, Event, Reply, Request, Target};

use super::{Victim, borrow, refusal, register, says};
use crate::bed::SOON;

const BAD: ErrorCode = ErrorCode::BadListener;

#[test]
fn what_is_no_listener_is_refused_with_the_reason() -> Result<()> {
    let victim = Victim::new()?;
    let netns = &victim.bed.netns;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mut client = Client::connect(&victim.bed.agent.socket())?;
    let mut refused = |fd: OwnedFd, address: SocketAddr, words: &[&str]| -> Result<()> {
        let request = register("bad", None, &[address])?;
        let refusal = refusal(&mut client, &request, &[fd.as_fd()])?;
        says(&refusal, BAD, words)?;
        says(&refusal, BAD, &[&address.to_string()])
    };
    let file = File::open("/dev/null")?.into();
    refused(file, any, &["not a socket"])?;
    let udp = netns.run(|| UdpSocket::bind(any))?.into();
    refused(udp, any, &["not a TCP socket"])?;
    let dir = tempfile::tempdir()?;
    let unix = UnixListener::bind(dir.path().join("socket"))?.into();
    refused(unix, any, &["not a TCP socket"])?;
    let plain = netns.run(|| TcpListener::bind(any))?;
    let address = plain.local_addr()?;
    refused(
        plain.into(),
        address,
        &["lacks SO_REUSEPORT", "before bind()"],
    )?;
    let (idle, address) = bound(netns, any, |_| Ok(()))?;
    refused(idle.into(), address, &["not listening", "call listen()"])?;
    let (there, address) = listener(netns, any)?;
    let elsewhere = SocketAddr::new(address.ip(), address.port() ^ 1);
    refused(
        there.into(),
        elsewhere,
        &[&format!("is bound to {address}, not to this")],
    )?;
    let connected = netns.run(|| -> Result<TcpStream> {
        let server = TcpListener::bind(any)?;
        Ok(TcpStream::connect(server.local_addr()?)?)
    })?;
    let address = connected.local_addr()?;
    refused(connected.into(), address, &["not listening"])?;
    drop(client);
    victim.check_unharmed()
}

#[test]
fn mptcp_listeners_are_refused_with_the_cure() -> Result<()> {
    if !needs("mptcp") {
        return Ok(());
    }
    let victim = Victim::new()?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mptcp = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let socket = victim.bed.netns.run(mptcp)?;
    socket.set_reuse_port(true)?;
    socket.bind(&any.into())?;
    socket.listen(1)?;
    let address = local(&socket)?;
    let mut client = Client::connect(&victim.bed.agent.socket())?;
    let request = register("bad", None, &[address])?;
    let refusal = refusal(&mut client, &request, &[socket.as_fd()])?;
    says(&refusal, BAD, &["MPTCP", "IPPROTO_TCP"])?;
    drop(client);
    victim.check_unharmed()
}

#[test]
fn what_differs_from_its_siblings_is_refused_with_the_difference() -> Result<()> {
    let victim = Victim::new()?;
    let netns = &victim.bed.netns;
    let agent = victim.bed.agent.socket();
    let (first, address) = bound(netns, "[::]:0".parse()?, |s| s.set_only_v6(true))?;
    first.listen(1)?;
    let own = register("own", Some("a"), &[address])?;
    let mut owner = Client::connect(&agent)?;
    accepted(&mut owner, &own, &[&first])?;
    let mut client = Client::connect(&agent)?;
    let mut refused = |socket: &Socket, words: &[&str]| -> Result<()> {
        let refusal = refusal(&mut client, &own, &[socket.as_fd()]);
        says(&refusal.with_context(|| words[0].to_owned())?, BAD, words)
    };

    refused(&first, &["registered already"])?;
    let (both, _) = bound(netns, address, |s| s.set_only_v6(false))?;
    both.listen(1)?;
    refused(&both, &["IPV6_V6ONLY", "set both alike before bind()"])?;
    let (foreign, _) = bound(netns, address, |s| s.set_only_v6(true))?;
    foreign.listen(1)?;
    fchown(&foreign, Some(Uid::from_raw(1000)), None)?;
    refused(
        &foreign,
        &["uid 1000", "uid 0", "run both generations as one user"],
    )?;
    let there = Netns::new()?;
    let (outside, _) = bound(&there, address, |s| s.set_only_v6(true))?;
    outside.listen(1)?;
    refused(
        &outside,
        &[
            "another network namespace",
            "give the service there another name",
        ],
    )?;
    let (device, _) = bound(netns, address, |s| {
        s.set_only_v6(true)?;
        s.bind_device(Some(b"lo"))
    })?;
    device.listen(1)?;
    refused(&device, &["another device", "SO_BINDTODEVICE"])?;
    let twice = register("own", Some("b"), &[address, address])?;
    let (second, _) = bound(netns, address, |s| s.set_only_v6(true))?;
    second.listen(1)?;
    let fds = [second.as_fd(), second.as_fd()];
    says(&refusal(&mut client, &twice, &fds)?, BAD, &["came twice"])?;
    // What is alike is welcome, to the same client that was refused so often.
    accepted(&mut client, &own, &[&second])?;
    leave([owner, client])?;
    victim.check_unharmed()
}

#[test]
fn bounds_of_a_service_are_kept() -> Result<()> {
    let victim = Victim::new()?;
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= 2000);
    ensure!(
        enough,
        "1,024 listeners need more descriptors than {limit:?}"
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?;
    let (netns, agent) = (&victim.bed.netns, victim.bed.agent.socket());

    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let scattered = (0..17)
        .map(|_| listener(netns, any))
        .collect::<Result<Vec<_>>>()?;
    let (sockets, addresses): (Vec<_>, Vec<_>) = scattered.into_iter().unzip();
    let mut client = Client::connect(&agent)?;
    let many = register("many", None, &addresses)?;
    let limit = ErrorCode::LimitReached;
    says(
        &refusal(&mut client, &many, &borrow(&sockets))?,
        limit,
        &["at most 16 endpoints"],
    )?;
    // All or none: nothing of it is there.
    let nothing = Request::Status {
        service: Some("many".parse()?),
    };
    let refusal_ = refusal(&mut client, &nothing, &[])?;
    says(&refusal_, ErrorCode::NoSuchService, &["many"])?;
    let sixteen = register("many", None, &addresses[..16])?;
    accepted(
        &mut client,
        &sixteen,
        &sockets.iter().take(16).collect::<Vec<_>>(),
    )?;
    leave([client])?;

    let (first, address) = listener(netns, any)?;
    let mut siblings = vec![first];
    for _ in 1..1025 {
        siblings.push(listener(netns, address)?.0);
    }
    let mut client = Client::connect(&agent)?;
    for share in siblings[..1024].chunks(128) {
        let request = register("big", Some("a"), &vec![address; share.len()])?;
        accepted(&mut client, &request, &share.iter().collect::<Vec<_>>())?;
    }
    let last = register("big", None, &[address])?;
    let mut other = Client::connect(&agent)?;
    let refusal = refusal(&mut other, &last, &[siblings[1024].as_fd()])?;
    says(&refusal, limit, &["at most 1024 listeners", "0 are free"])?;
    victim.load.more(50)?;
    leave([client])?;
    drop((other, siblings, sockets));
    victim.check_unharmed()
}

#[test]
fn a_generation_that_drains_takes_nobody_in() -> Result<()> {
    let victim = Victim::new()?;
    let (netns, agent) = (&victim.bed.netns, victim.bed.agent.socket());
    let (first, address) = listener(netns, "127.0.0.1:0".parse()?)?;
    let mut sockets = vec![first];
    for _ in 0..3 {
        sockets.push(listener(netns, address)?.0);
    }
    let join = |name: &str| register("own", Some(name), &[address]);
    let [mut old, mut new, mut late] = [
        Client::connect(&agent)?,
        Client::connect(&agent)?,
        Client::connect(&agent)?,
    ];
    let bad = ErrorCode::BadMessage;
    let latest = refusal(&mut old, &join("latest")?, &[sockets[0].as_fd()])?;
    says(&latest, bad, &["\"latest\" cannot be a generation's name"])?;
    accepted(&mut old, &join("a")?, &[&sockets[0]])?;
    say_ready(&mut old, &Reply::Event(Event::Working))?;
    // Of one connection, one generation.
    let other = refusal(&mut old, &join("b")?, &[sockets[1].as_fd()])?;
    says(&other, bad, &["serves a of own", "open another one"])?;
    accepted(&mut new, &join("b")?, &[&sockets[1]])?;
    say_ready(&mut new, &Reply::Done)?;
    // Nobody accepts it, so that the drain goes on.
    let queued = netns.run(|| TcpStream::connect(address))?;
    let flip = Request::Flip {
        service: Some("own".parse()?),
        to: Target::Generation("b".parse()?),
        if_epoch: None,
        drain_ms: 0,
        keep: false,
    };
    let mut operator = Client::connect(&agent)?;
    let flipped = operator.ask(&flip, SOON)?;
    ensure!(matches!(flipped, Reply::Committed(_)), "{flipped:?}");
    let refusal = refusal(&mut late, &join("a")?, &[sockets[2].as_fd()])?;
    says(
        &refusal,
        ErrorCode::GenerationClosed,
        &["\"a\"", "choose a new name"],
    )?;
    accepted(&mut late, &join("c")?, &[&sockets[2]])?;
    drop((queued, operator));
    leave([late, old, new])?;
    victim.check_unharmed()
}

/// A bound SO_REUSEPORT socket, and where.
fn bound(
    netns: &Netns,
    address: SocketAddr,
    with: impl Fn(&Socket) -> io::Result<()> + Sync,
) -> Result<(Socket, SocketAddr)> {
    netns.run(|| {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_port(true)?;
        with(&socket)?;
        socket.bind(&address.into()).context("bind")?;
        let address = local(&socket)?;
        Ok((socket, address))
    })
}

fn listener(netns: &Netns, address: SocketAddr) -> Result<(Socket, SocketAddr)> {
    let (socket, address) = bound(netns, address, |_| Ok(()))?;
    socket.listen(16)?;
    Ok((socket, address))
}

fn local(socket: &Socket) -> Result<SocketAddr> {
    socket.local_addr()?.as_socket().context("no IP address")
}

fn accepted(client: &mut Client, request: &Request, sockets: &[&Socket]) -> Result<()> {
    let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
    client.send(request, &fds)?;
    let reply = client.receive(Some(SOON))?;
    ensure!(matches!(reply, Reply::Registered { .. }), "{reply:?}");
    Ok(())
}

/// Says ready and waits for what the agent says to that: that it has heard it, or, to the first
/// generation, that it works.
fn say_ready(client: &mut Client, last: &Reply) -> Result<()> {
    client.send(&Request::Ready, &[])?;
    while client.receive(Some(SOON))? != *last {}
    Ok(())
}

/// Leaves on purpose, so that the agent does not hold the listeners for a successor.
fn leave(clients: impl IntoIterator<Item = Client>) -> Result<()> {
    for mut client in clients {
        client.send(&Request::Closed, &[])?;
        while !matches!(client.receive(Some(SOON))?, Reply::Done) {}
    }
    Ok(())
}
