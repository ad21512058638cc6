//! Promise: descriptors that no request asks for, or that are refused, are closed, and however long
//! that takes, nobody waits for it but their sender.

use std::{
    io::{ErrorKind, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;
use synflip_bed::{
    Netns,
    wait::{self, MS, SECOND},
};
use synflip_wire::{Asked, Client, ErrorCode, Hello, Request, RequestId, Target, frame::FORMAT};

use super::{
    listeners::listener,
    messages::{frame, null, of, send},
    talk::{accepted, hello, leave, refusal, register, says},
    victim::Victim,
};

#[test]
fn a_refused_listener_ends_with_its_server() -> Result<()> {
    let victim = Victim::new()?;
    let (netns, agent) = (&victim.fixture.net.server, victim.fixture.agent.socket());
    let any = "127.0.0.1:0".parse()?;
    let (own, at) = listener(netns, any)?;
    let mut owner = Client::connect(&agent)?;
    accepted(&mut owner, &register("own", None, &[at])?, &[&own])?;
    // The service goes on, and nothing else is asked of it.
    let (refused, address) = listener(netns, any)?;
    let mut client = Client::connect(&agent)?;
    let reserved = register("own", Some("latest"), &[address])?;
    let answer = refusal(&mut client, &reserved, &[refused.as_fd()])?;
    says(&answer, ErrorCode::BadMessage, &["\"latest\""])?;
    drop(refused);
    let is_closed = || {
        let connected = netns.run(|| TcpStream::connect(address));
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    wait::until("nobody listens there", 10 * SECOND, is_closed)?;
    drop(client);
    leave([owner])?;
    victim.check_unharmed()
}

#[test]
fn only_the_sender_waits_until_a_descriptor_is_closed() -> Result<()> {
    let victim = Victim::new()?;
    let address = victim.fixture.net.address;
    let flip = Request::Flip {
        service: None,
        to: Target::Latest,
        if_epoch: None,
        drain_ms: 0,
        keep: false,
        drop_endpoints: Vec::new(),
    };
    let one = |document: &str| of(document, 1);
    let greeting = hello()?;
    let said = greeting.as_slice();
    // What comes before the descriptor, and with it.
    let ways: [(&str, &[u8], Vec<u8>); 10] = [
        (
            "with a hello",
            b"",
            with_one(&Request::Hello(Hello::new()))?,
        ),
        (
            "with a status",
            said,
            with_one(&Request::Status { service: None })?,
        ),
        ("with a flip", said, with_one(&flip)?),
        (
            "with what is not known",
            said,
            one(r#"{"id":2,"request":"dance"}"#),
        ),
        (
            "with what is no listener",
            said,
            with_one(&register("web", None, &[address])?)?,
        ),
        ("with what is no request", said, one("?")),
        ("with what announced none", said, of("{}", 0)),
        ("among more than there may be", said, of("{}", 253)),
        ("with half of a request", said, frame(100, FORMAT, 1, "{")),
        ("behind the end", &of("?", 0), b" ".to_vec()),
    ];
    let mut late = Vec::new();
    for (what, before, with) in ways {
        let (slow, never_reads) = slow_to_close(&victim.fixture.net.server)?;
        let stream = victim.connect()?;
        // It gets the last one, and sees the end together with the beginning.
        signal(&victim, Signal::STOP)?;
        if !before.is_empty() {
            send(&stream, before, &[])?;
        }
        let many = if what.starts_with("among") {
            null(252)?
        } else {
            Vec::new()
        };
        let fds: Vec<OwnedFd> = many.into_iter().chain([slow]).collect();
        send(&stream, &with, &fds)?;
        drop(fds);
        if what.contains("half") {
            stream.shutdown(Shutdown::Both)?;
        }
        signal(&victim, Signal::CONT)?;
        // Until it has come so far as to close it.
        wait::pause(200 * MS);
        let begun = Instant::now();
        let asked = victim.fixture.agent.status();
        if asked.is_err() || begun.elapsed() > 3 * SECOND {
            late.push(what);
        }
        drop((stream, never_reads));
        victim.fixture.agent.status().context(what)?;
    }
    ensure!(late.is_empty(), "no answer within 3 s to others: {late:#?}");
    victim.check_unharmed()
}

#[test]
fn an_agent_that_is_to_end_does_not_wait_for_it() -> Result<()> {
    let mut victim = Victim::new()?;
    let (slow, _never_reads) = slow_to_close(&victim.fixture.net.server)?;
    let stream = victim.connect()?;
    signal(&victim, Signal::STOP)?;
    send(&stream, &hello()?, &[])?;
    let status = with_one(&Request::Status { service: None })?;
    send(&stream, &status, &[slow])?;
    signal(&victim, Signal::CONT)?;
    wait::pause(200 * MS);
    signal(&victim, Signal::TERM)?;
    wait::until("it has ended", 10 * SECOND, || {
        victim.fixture.agent.has_ended()
    })
}

/// A socket that takes [`LINGER`] to close, unless its other end is closed before.
fn slow_to_close(netns: &Netns) -> Result<(OwnedFd, TcpStream)> {
    let (sends, never_reads) = netns.run(|| -> Result<_> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sends = TcpStream::connect(listener.local_addr()?)?;
        Ok((sends, listener.accept()?.0))
    })?;
    sends.set_nonblocking(true)?;
    // More than both sides keep: some of it is unsent for as long as nobody reads.
    while (&sends).write(&[0; 1 << 16]).is_ok() {}
    SockRef::from(&sends).set_linger(Some(LINGER))?;
    Ok((sends.into(), never_reads))
}

/// A request with a descriptor.
fn with_one(request: &Request) -> Result<Vec<u8>> {
    Ok(Asked::encode(RequestId(1), request, 1)?.to_vec())
}

fn signal(victim: &Victim, signal: Signal) -> Result<()> {
    let pid = i32::try_from(victim.fixture.agent.pid())?;
    let agent = Pid::from_raw(pid).context("no process")?;
    Ok(kill_process(agent, signal)?)
}

const LINGER: Duration = Duration::from_secs(30);
