//! Promise: tables with dead slots, and maps of another making, are refused, which changes nothing.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use synflip_bed::{Family, product::Pins};
use synflip_bpf::{BpfError, MAPS, Object, Steering, service_dir, services};
use synflip_plan::Table;

use super::bench::{Bench, any, variant};

#[test]
fn a_table_with_a_dead_slot_is_refused_and_changes_nothing() -> Result<()> {
    let mut bench = Bench::new()?;
    let (first, address) = bench.listen(0, any(Family::V4))?;
    let old = [vec![first], bench.listen_beside(0, address, 1)?].concat();
    let new = bench.listen_beside(0, address, 3)?;
    bench.publish(&[&old])?;
    let words = bench.publisher.published()?;

    let gone = bench.listeners[&new[1]].1.try_clone()?;
    gone.shutdown(std::net::Shutdown::Read)?;
    expect_gone(bench.publish(&[&new]), new[1])?;
    // Closed: the slot is empty, whatever cookie is asked for.
    let (_, closed) = bench.listeners.remove(&new[2]).context("a listener")?;
    let cookies = [
        (new[0], bench.listeners[&new[0]].1.cookie()?),
        (new[2], closed.cookie()?),
    ];
    drop(closed);
    let table = Table::new([[new[0], new[2]].as_slice()]);
    expect_gone(
        bench.publisher.publish(&table.words(), &cookies).map(drop),
        new[2],
    )?;
    // Another listener than the one that is meant.
    let wrong = [(new[0], cookies[0].1 + 1)];
    let table = Table::new([[new[0]].as_slice()]);
    expect_gone(
        bench.publisher.publish(&table.words(), &wrong).map(drop),
        new[0],
    )?;

    ensure!(
        bench.publisher.published()? == words,
        "another table is published"
    );
    let accepted = bench.connect(address, 100)?;
    ensure!(accepted.keys().eq(&old), "{accepted:?}");
    // Without them it is taken.
    bench.publish(&[&new[..1]])?;
    ensure!(
        bench.connect(address, 20)?.keys().eq(&new[..1]),
        "others answer"
    );
    Ok(())
}

#[test]
fn pinned_maps_of_another_definition_are_refused() -> Result<()> {
    for foreign in MAPS {
        for name in MAPS.into_iter().filter(|name| *name != foreign) {
            let pins = Pins::new()?;
            let (from, to) = (pins.path().join("from"), pins.path().join("to"));
            drop(Steering::open(from.clone(), Object::default(), variant()?)?);
            fs::create_dir(&to)?;
            fs::rename(from.join(foreign), to.join(name))
                .with_context(|| format!("pin {foreign} as {name}"))?;
            match Steering::open(to.clone(), Object::default(), variant()?) {
                Err(BpfError::Foreign { name: found }) => {
                    ensure!(found == name, "{foreign} as {name}: {found}");
                }
                Err(error) => return Err(error).context("not recognised"),
                Ok(_) => bail!("{foreign} is taken for {name}"),
            }
            // It is not ours to remove.
            ensure!(to.join(name).exists(), "{name} was removed");
        }
    }
    Ok(())
}

#[test]
fn a_service_is_found_again_through_its_pins() -> Result<()> {
    let mut bench = Bench::new()?;
    let (first, address) = bench.listen(0, any(Family::V4))?;
    let second = bench.listen_beside(0, address, 1)?;
    bench.publish(&[&second])?;
    bench.connect(address, 30)?;
    let dir = bench.steering.dir().to_owned();
    let (again, mut publisher) = Steering::open(dir, Object::default(), variant()?)?;
    ensure!(
        publisher.published()? == bench.publisher.published()?,
        "another table"
    );
    ensure!(
        again.outcomes(0)? == bench.steering.outcomes(0)?,
        "other counters"
    );
    for (slot, (_, socket)) in &bench.listeners {
        let (member, cookie) = again.member(*slot)?;
        ensure!(
            cookie == Some(socket.cookie()?),
            "slot {slot} holds another listener"
        );
        ensure!(
            member.is_some_and(|member| Some(member.cookie) == cookie),
            "{member:?}"
        );
    }
    // It can go on where the first one was.
    let cookie = bench.listeners[&first].1.cookie()?;
    let table = Table::new([[first].as_slice()]);
    publisher.publish(&table.words(), &[(first, cookie)])?;
    ensure!(
        bench.connect(address, 30)?.keys().eq(&[first]),
        "others answer"
    );
    Ok(())
}

#[test]
fn a_service_may_be_called_what_a_file_may_not() -> Result<()> {
    let pins = Pins::new()?;
    for name in ["v1.2.3", "web@v1", "a+b", "1.0.0-rc.1+build.5"] {
        let dir = service_dir(pins.path(), name);
        drop(Steering::open(dir.clone(), Object::default(), variant()?)?);
        let found = services(pins.path())?;
        let [found] = found.as_slice() else {
            bail!("{found:?}");
        };
        ensure!(
            found.service.as_deref() == Some(name) && found.pins == dir,
            "{found:?}"
        );
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

fn expect_gone(result: Result<(), BpfError>, expected: u32) -> Result<()> {
    match result {
        Err(BpfError::ListenerGone { slot }) if slot == expected => Ok(()),
        other => bail!("slot {expected}: {other:?}"),
    }
}
