//! Promise: a service of version 2 (0.1.0) goes on where it is: its listeners keep their slots, new
//! connections go where they went, and all that was known of it is.

use std::{collections::BTreeMap, fs, net::SocketAddr, os::fd::AsFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::Socket;
use synflip_abi::{MAX_SLOTS, Member, MemberState};
use synflip_bed::{
    Family, Netns,
    product::{Pins, Version2},
};
use synflip_bpf::{Object, Steering, carry_over, leftovers, service_dir, services};
use synflip_plan::Table;
use synflip_types::GenerationId;

use super::bench::{Bench, any, connect, listener, local, variant};

#[test]
fn all_is_as_it_was_and_goes_on() -> Result<()> {
    let old = Old::new()?;
    let before = old.outcomes;
    let (bench, at) = old.carry_over()?;
    let Bench {
        steering,
        publisher,
        ..
    } = &bench;
    ensure!(steering.slots()? == 1024, "{} slots", steering.slots()?);
    for slot in 0..MAX_SLOTS {
        let (member, cookie) = steering.member(slot)?;
        let listener = bench.listeners.get(&slot);
        let own = listener.map(|(_, socket)| socket.cookie()).transpose()?;
        ensure!(cookie == own, "slot {slot} has another listener");
        let expected = listener.map(|(address, _)| expected(slot, own, *address));
        ensure!(member == expected, "{member:?}, not {expected:?}");
    }
    let words = publisher.published()?.context("no table")?;
    let table = Table::new([[0, 1].as_slice(), &[2]]).of(GenerationId(7), 3);
    ensure!(Table::from_words(&words) == Some(table), "another table");
    for (slot, cookie) in Table::cookies(&words) {
        let its = bench.listeners[&slot].1.cookie()?;
        ensure!(its == cookie, "{slot} is another");
    }
    let outcomes = (bench.outcomes(0)?, bench.outcomes(1)?);
    ensure!(
        (outcomes.0.selected, outcomes.1.selected) == before,
        "{outcomes:?}, not {before:?}"
    );
    ensure!(bench.connect(at[0], 40)?.keys().eq(&[0, 1]), "others");
    ensure!(bench.connect(at[1], 10)?.keys().eq(&[2]), "others");
    Ok(())
}

#[test]
fn a_flip_is_followed_by_the_old_program_and_by_the_new_one() -> Result<()> {
    let (mut bench, at) = Old::new()?.carry_over()?;
    let pins = Version2::dir(bench.pins.path(), "web");
    let tables: [[&[u32]; 2]; 2] = [[&[3], &[2]], [&[0, 1], &[2]]];
    let follow = |bench: &mut Bench| -> Result<()> {
        for table in tables {
            bench.publish(&table)?;
            for (address, slots) in at.iter().zip(table) {
                let accepted = bench.connect(*address, 30)?;
                ensure!(accepted.keys().eq(slots), "{slots:?}: {accepted:?}");
            }
        }
        Ok(())
    };
    // The old program on both groups; then the new one on the one and on the other. Each time the
    // agent that did it is followed by another.
    follow(&mut bench)?;
    (bench.steering, bench.publisher) = bench.open_carried()?;
    follow(&mut bench)?;
    let bpffs = bench.pins.path();
    ensure!(
        carry_over(bpffs, &Object::default(), variant()?).is_empty() && leftovers(bpffs).is_empty(),
        "it was not carried over"
    );

    bench.attach(0)?;
    follow(&mut bench)?;
    ensure!(pins.exists(), "the old pins are gone too early");
    (bench.steering, bench.publisher) = bench.open_carried()?;
    follow(&mut bench)?;
    bench.attach(2)?;
    ensure!(pins.exists(), "the old pins are gone too early");
    bench.attach(1)?;
    ensure!(!pins.exists(), "the old pins are there still");
    follow(&mut bench)?;
    bench.outcomes(0)?;
    bench.outcomes(1)?;
    Ok(())
}

#[test]
fn whoever_goes_on_without_a_listener_is_not_waited_for() -> Result<()> {
    let (mut bench, _) = Old::new()?.carry_over()?;
    let pins = Version2::dir(bench.pins.path(), "web");
    bench.attach(0)?;
    bench.publish(&[&[0, 1]])?;
    bench.listeners.remove(&2);
    bench.steering.clear(2)?;
    ensure!(!pins.exists(), "the old pins are there still");
    Ok(())
}

#[test]
fn what_an_agent_has_not_finished_is_begun_again() -> Result<()> {
    let old = Old::new()?;
    let unfinished = service_dir(old.pins.path(), "%carry-web");
    fs::create_dir_all(unfinished.join("rubbish"))?;
    let found = services(old.pins.path())?;
    ensure!(
        found.iter().all(|found| found.service.is_none()),
        "{found:?}"
    );
    let (bench, at) = old.carry_over()?;
    ensure!(!unfinished.exists(), "it is there still");
    ensure!(bench.connect(at[0], 40)?.keys().eq(&[0, 1]), "others");
    Ok(())
}

/// A service as an agent of version 2 leaves it.
struct Old {
    pins: Pins,
    netns: Netns,
    listeners: BTreeMap<u32, (SocketAddr, Socket)>,
    at: [SocketAddr; 2],
    /// How many connections each endpoint's program has given to a listener.
    outcomes: (u64, u64),
}

impl Old {
    /// Generation 7 works on two endpoints; of those before it one listener drains, one is kept,
    /// and one a tombstone. A slot is noted whose listener has gone.
    fn new() -> Result<Self> {
        let (pins, netns) = (Pins::new()?, Netns::new()?);
        let mut old = Version2::new(pins.path(), "web")?;
        let open = |at| netns.run(|| listener(at));
        let (web, admin) = (open(any(Family::V4))?, open(any(Family::V6))?);
        let at = [local(&web)?, local(&admin)?];
        let mut listeners = BTreeMap::from([(0, (at[0], web)), (2, (at[1], admin))]);
        for slot in [1, 3, 4, 5, 6] {
            listeners.insert(slot, (at[0], open(at[0])?));
        }
        for (slot, (address, socket)) in &listeners {
            old.fill(*slot, socket)?;
            old.note(*slot, &expected(*slot, Some(socket.cookie()?), *address))?;
        }
        old.publish(&[&[0, 1], &[2]], 7, 3)?;
        for (endpoint, slot) in [(0, 0), (1, 2)] {
            old.attach(variant()?, endpoint, &listeners[&slot].1)?;
        }
        // Noted, and gone.
        listeners.remove(&6);

        let count = |slots: &[u32], to, connections| -> Result<u64> {
            let accepted = connect(&netns, &listeners, to, connections)?;
            ensure!(accepted.keys().eq(slots), "{accepted:?}");
            Ok(u64::try_from(connections)?)
        };
        let outcomes = (count(&[0, 1], at[0], 50)?, count(&[2], at[1], 10)?);
        Ok(Self {
            pins,
            netns,
            listeners,
            at,
            outcomes,
        })
    }

    /// The next agent is of this version.
    fn carry_over(self) -> Result<(Bench, [SocketAddr; 2])> {
        let bpffs = self.pins.path();
        let done = carry_over(bpffs, &Object::default(), variant()?);
        let [(_, Ok(carried))] = done.as_slice() else {
            bail!("{done:?}");
        };
        ensure!(
            carried.service == "web" && carried.listeners == 6,
            "{carried:?}"
        );
        let dir = service_dir(bpffs, "web");
        let (steering, publisher) = Steering::open(dir, Object::default(), variant()?)?;
        let bench = Bench {
            netns: self.netns,
            steering,
            publisher,
            listeners: self.listeners,
            pins: self.pins,
        };
        Ok((bench, self.at))
    }
}

impl Bench {
    fn open_carried(&self) -> Result<(Steering, synflip_bpf::Publisher)> {
        let found = services(self.pins.path())?;
        ensure!(found.len() == 1, "{found:?}");
        self.open_again()
    }

    /// Attaches the new program through a listener.
    fn attach(&mut self, slot: u32) -> Result<()> {
        let endpoint = u32::from(slot == 2);
        let socket = &self.listeners[&slot].1;
        Ok(self.steering.attach(endpoint, socket.as_fd())?)
    }
}

/// What is noted of a slot's listener.
fn expected(slot: u32, cookie: Option<u64>, address: SocketAddr) -> Member {
    let (state, generation, name, left_at) = match slot {
        3 => (MemberState::Kept, 6, "gen6-kept", 3),
        4 => (MemberState::Tombstone, 4, "gen4", 1),
        5 => (MemberState::Leaving, 5, "gen5", 2),
        _ => (MemberState::Registered, 7, "gen7", 0),
    };
    let mut later = [0; Member::LATER_WORDS];
    // Not noted, but known of what was flipped away from.
    if matches!(slot, 3 | 5) {
        later[Member::FLAGS] = Member::READY;
    }
    Member {
        state,
        generation,
        name: Member::name_bytes(name),
        owner_uid: 1000,
        left_at,
        defer_accept: if slot == 5 { 30 } else { 0 },
        pid: 4000 + slot,
        pid_namespace: 0xf000_0001,
        started: 123_456_789_012,
        later,
        ..Member::registered(cookie.unwrap_or(0), u32::from(slot == 2), address)
    }
}
