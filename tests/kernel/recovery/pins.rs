//! Promise: a fresh start trips over nothing: neither over what a service leaves behind whose
//! processes and agent are all gone, nor over what else may be where its pins are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use synflip_abi::{MAX_ENDPOINTS, MEMBERS, Member, OUTCOMES, SOCKETS, TABLES, VERSION};
use synflip_bed::{
    Fixture, Setup,
    fixture::{find, works},
    wait::{self, SOON},
};
use synflip_bpf::{MAPS, Object, Steering, Variant, service_dir};
use synflip_wire::{GenerationStatus, Phase};

#[test]
fn what_is_left_of_a_service_is_removed_by_the_next_agent() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let pins = service_dir(fixture.agent.bpffs(), "web");
    let first = fixture.first(&[])?;
    let second = fixture.generation(2, &[])?;
    fixture.agent.flip_with("gen2", &["--keep"])?;
    fixture.agent.kill(Signal::KILL)?;
    for server in [first, second] {
        server.kill()?;
    }
    ensure!(pins.exists(), "no pins are left");
    fixture.restart_agent()?;
    ensure!(!pins.exists(), "the pins are there still");
    ensure!(
        fixture.agent.status()?.services.is_empty(),
        "a service is left"
    );
    // As on a fresh machine: numbers and epochs begin again.
    fresh(&fixture)
}

#[test]
fn a_dead_servers_slots_are_emptied() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let second = fixture.generation(2, &[])?;
    fixture.agent.kill(Signal::KILL)?;
    second.kill()?;
    fixture.restart_agent()?;
    let status = fixture.wait_back(&["gen1"])?;
    ensure!(find(&status, "gen2").is_none(), "{status:#?}");
    // Its slots are free, and its name is.
    let second = fixture.generation(2, &[])?;
    let status = fixture.agent.service()?;
    let slots = find(&status, "gen2").map(|g| g.listeners.iter().map(|l| l.slot.0).collect());
    ensure!(slots == Some(vec![2, 3]), "{status:#?}");
    fixture.agent.flip("gen2")?;
    ensure!(fixture.net.answers(10)? == [2; 10], "others answer");
    drop(second);
    fixture.agent.check_counters()
}

#[test]
fn notes_that_make_no_sense_are_not_believed() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.kill(Signal::KILL)?;
    let dir = service_dir(fixture.agent.bpffs(), "web");
    let (mut steering, _) = Steering::open(dir, Object::default(), Variant::Select)?;
    let (note, _) = steering.member(2)?;
    let note = note.context("a listener of gen2")?;
    let nonsense = [
        (2, Member { cookie: 1, ..note }),
        (
            3,
            Member {
                endpoint: u32::MAX,
                ..note
            },
        ),
        (
            4,
            Member {
                endpoint: MAX_ENDPOINTS,
                cookie: 7,
                ..note
            },
        ),
        (
            5,
            Member {
                name: [0xff; Member::NAME_BYTES],
                generation: u32::MAX,
                ..note
            },
        ),
    ];
    for (slot, note) in &nonsense {
        steering.note(*slot, Some(note))?;
    }
    drop(steering);
    fixture.restart_agent()?;
    fixture.until("both are back", |service| {
        let is = |name, phase| find(service, name).is_some_and(|g| g.phase == phase);
        is("gen1", Phase::Working) && is("gen2", Phase::Ready)
    })?;
    fixture.agent.flip("gen2")?;
    ensure!(fixture.net.answers(10)? == [2; 10], "others answer");
    fixture.agent.check_counters()
}

#[test]
fn foreign_pins_are_removed() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let root = service_dir(fixture.agent.bpffs(), "");
    fixture.agent.kill(Signal::KILL)?;
    // Each of them in the place of each other one, all for one agent: it looks at one service
    // after another, and starting is what takes its time.
    for shift in 1..MAPS.len() {
        open(&root.join("other"))?;
        for (foreign, name) in MAPS.iter().zip(MAPS.iter().cycle().skip(shift)) {
            let web = root.join(format!("{foreign}-as-{name}"));
            fs::create_dir(&web)?;
            fs::rename(root.join("other").join(foreign), web.join(name))?;
        }
    }
    start(&mut fixture)?;
    // Neither a directory nor a name; half of a service; what an agent has tried out.
    fixture.agent.kill(Signal::KILL)?;
    open(&root.join("other"))?;
    fs::rename(root.join("other").join(MEMBERS), root.join("web"))?;
    fs::rename(root.join("other").join(TABLES), root.join("-stray"))?;
    open(&root.join("selftest-4194305"))?;
    fs::create_dir(root.join("empty"))?;
    fs::create_dir(root.join("-no-name-"))?;
    start(&mut fixture)?;
    fresh(&fixture)
}

/// Starts the agent, which is to find nothing and to leave nothing.
fn start(fixture: &mut Fixture) -> Result<()> {
    fixture.restart_agent()?;
    ensure!(fixture.agent.status()?.services.is_empty(), "a service");
    let left = entries(&service_dir(fixture.agent.bpffs(), ""))?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

#[test]
fn other_versions_pins_are_removed_unless_somebody_needs_them() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    fixture.agent.kill(Signal::KILL)?;
    let root = service_dir(fixture.agent.bpffs(), "");
    let synflip = root.parent().context("a parent")?;
    let (old, new) = (
        synflip.join("v0"),
        synflip.join(format!("v{}", VERSION + 1)),
    );
    open(&old.join("dead"))?;
    open(&old.join("half"))?;
    fs::remove_file(old.join("half").join(SOCKETS))?;
    open(&new.join("dead"))?;
    // Whatever another version has in the place of the sockets.
    open(&new.join("unknown"))?;
    fs::remove_file(new.join("unknown").join(SOCKETS))?;
    fs::rename(
        new.join("unknown").join(OUTCOMES),
        new.join("unknown").join(SOCKETS),
    )?;
    // What is no version is no concern of the agent's.
    fs::create_dir(synflip.join("notes"))?;
    fixture.restart_agent()?;
    ensure!(entries(&old)?.is_empty(), "{:?}", entries(&old)?);
    ensure!(
        entries(&new)? == [new.join("unknown")],
        "{:?}",
        entries(&new)?
    );
    ensure!(synflip.join("notes").exists(), "it was removed");
    ensure!(fixture.agent.log().contains("unintelligibly"), "not said");
    ensure!(
        works(&fixture.agent.service()?, "gen1"),
        "gen1 is forgotten"
    );
    ensure!(fixture.net.answers(5)? == [1; 5], "others answer");
    Ok(())
}

#[test]
fn two_capabilities_are_enough_to_find_everything_again() -> Result<()> {
    let mut fixture = Setup::new().agent_least_privileged().start()?;
    let _first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    fixture.agent.flip_with("gen2", &["--keep"])?;
    for round in 0..2 {
        fixture.agent.kill(Signal::KILL)?;
        fixture.restart_agent()?;
        fixture.until("all is as it was", |service| {
            let standby = |g: &GenerationStatus| g.phase == Phase::Standby;
            works(service, "gen2") && find(service, "gen1").is_some_and(standby)
        })?;
        ensure!(fixture.agent.service()?.epoch.0 == 2, "another epoch");
        ensure!(fixture.net.answers(10)? == [2; 10], "round {round}");
    }
    // One table is pinned, not one for each that there ever was.
    let pins = entries(&service_dir(fixture.agent.bpffs(), "web"))?;
    let is_table = |pin: &&PathBuf| pin.display().to_string().contains("/table-");
    ensure!(pins.iter().filter(is_table).count() == 1, "{pins:?}");
    fixture.agent.check_counters()
}

#[test]
fn servers_move_over_from_another_version() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let first = fixture.first(&[])?;
    let load = fixture.net.load(4);
    load.more(50)?;
    fixture.agent.kill(Signal::KILL)?;
    // As if that agent had been of the version before.
    let pins = service_dir(fixture.agent.bpffs(), "web");
    let synflip = pins.ancestors().nth(2).context("a parent")?;
    let old = synflip.join("v0");
    fs::create_dir(&old)?;
    fs::rename(&pins, old.join("web")).context("give the pins another version")?;
    load.more(50)?;
    fixture.restart_agent()?;
    fixture.until("its server has moved over", |service| {
        works(service, "gen1") && find(service, "gen1").is_some_and(|g| g.listeners.len() == 2)
    })?;
    wait::until("nothing is left of the old pins", SOON, || {
        entries(&old).is_ok_and(|left| left.is_empty())
    })
    .with_context(|| fixture.agent.log())?;
    load.more(50)?;
    let second = fixture.generation(2, &[])?;
    fixture.agent.flip("gen2")?;
    first.wait_exit(SOON)?;
    load.more(50)?;
    load.finish_unharmed()?;
    drop(second);
    fixture.agent.check_counters()
}

/// A service begins, as if nothing had ever been there.
fn fresh(fixture: &Fixture) -> Result<()> {
    let _first = fixture.first(&[])?;
    let status = fixture.agent.service()?;
    ensure!(status.epoch.0 == 1, "{status:#?}");
    ensure!(fixture.net.answers(10)? == [1; 10], "others answer");
    fixture.agent.check_counters()
}

/// Makes a service's pins.
fn open(dir: &Path) -> Result<()> {
    Steering::open(dir.to_owned(), Object::default(), Variant::Select)
        .with_context(|| format!("make pins in {}", dir.display()))
        .map(drop)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
