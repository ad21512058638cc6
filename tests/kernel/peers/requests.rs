//! Promise: requests that are understood, and do not fit, are refused, and the connection goes on.

use std::{net::TcpStream, os::fd::AsFd as _};

use anyhow::{Result, ensure};
use synflip_bed::wait::SOON;
use synflip_wire::{Client, ErrorCode, Event, Reply, Request, Target};

use super::{
    listeners::listener,
    messages::{null, of, send},
    talk::{accepted, borrow, hello, last_word, leave, refusal, register, says},
    victim::Victim,
};

#[test]
fn what_does_not_fit_is_refused_and_the_connection_goes_on() -> Result<()> {
    let victim = Victim::new()?;
    let mut client = Client::connect(&victim.fixture.agent.socket())?;
    let bad = ErrorCode::BadMessage;
    let unregistered = "has not registered any listener";
    says(
        &refusal(&mut client, &Request::Ready, &[])?,
        bad,
        &[unregistered],
    )?;
    says(
        &refusal(&mut client, &Request::Closed, &[])?,
        bad,
        &[unregistered],
    )?;
    let nothing = register("web", None, &[])?;
    says(
        &refusal(&mut client, &nothing, &[])?,
        bad,
        &["at least one listener"],
    )?;
    let named = register("web", None, &[victim.fixture.net.address])?;
    says(
        &refusal(&mut client, &named, &[])?,
        bad,
        &["1 listeners were named, 0 descriptors"],
    )?;
    let files = null(2)?;
    let two = refusal(&mut client, &named, &borrow(&files))?;
    says(&two, bad, &["1 listeners were named, 2 descriptors"])?;
    let other = Request::Status {
        service: Some("mail".parse()?),
    };
    let nowhere = refusal(&mut client, &other, &[])?;
    says(&nowhere, ErrorCode::NoSuchService, &["\"mail\"", "web"])?;
    for name in ["", "a/b", "..", "-x", &"x".repeat(65)] {
        let stream = victim.connect()?;
        let document = serde_json::json!({
            "id": 7, "request": "register", "service": name, "generation": null, "listeners": [],
        });
        send(&stream, &hello()?, &[])?;
        send(&stream, &of(&document.to_string(), 0), &[])?;
        let refusal = last_word(&stream)?;
        says(&refusal, bad, &["is not a name", "1 to 64 letters, digits"])?;
    }
    drop(client);
    victim.check_unharmed()
}

#[test]
fn a_generation_that_drains_takes_nobody_in() -> Result<()> {
    let victim = Victim::new()?;
    let (netns, agent) = (&victim.fixture.net.server, victim.fixture.agent.socket());
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
        drop_endpoints: Vec::new(),
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

/// Says ready and waits for what the agent says to that: that it has heard it, or, to the first
/// generation, that it works.
fn say_ready(client: &mut Client, last: &Reply) -> Result<()> {
    client.send(&Request::Ready, &[])?;
    while client.receive(Some(SOON))?.reply != *last {}
    Ok(())
}
