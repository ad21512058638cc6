//! Promise: every run of the program is counted once, by what came of it.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Family,
    raw::{self, RawClient, Reply},
    wait::{self, MS, SOON},
};
use synflip_bpf::Outcomes;

use super::bench::{Bench, any};

#[test]
fn connections_retransmissions_and_stray_segments_are_counted() -> Result<()> {
    Family::both(|family| {
        let mut bench = Bench::new()?;
        let wire = RawClient::new(&bench.netns)?;
        let (slot, to) = bench.listen(0, (raw::server(family), 0).into())?;
        bench.publish(&[&[slot]])?;
        let from = raw::client(family, 7, 5000);
        let runs = |bench: &Bench| Ok::<_, anyhow::Error>(bench.outcomes(0)?.runs);
        ensure!(runs(&bench)? == 0, "runs before the first segment");

        // A SYN runs the program; the same again finds its request instead.
        let mut vanished = wire.syn(from, to)?;
        ensure!(vanished.recv_syn_ack(SOON)? == Reply::SynAck, "no SYN-ACK");
        ensure!(runs(&bench)? == 1, "{} runs after a SYN", runs(&bench)?);
        drop(vanished);
        let again = wire.syn(from, to)?;
        wait::pause(100 * MS);
        ensure!(
            runs(&bench)? == 1,
            "{} runs after the SYN came again",
            runs(&bench)?
        );
        drop(again);

        // A whole connection runs it once.
        let mut client = wire.syn(raw::client(family, 7, 5001), to)?;
        ensure!(client.recv_syn_ack(SOON)? == Reply::SynAck, "no SYN-ACK");
        client.ack()?;
        client.send(b"hello")?;
        let listener = &bench.listeners[&slot].1;
        let mut server = None;
        wait::until("the connection is accepted", SOON, || {
            server = listener.accept().ok();
            server.is_some()
        })?;
        let (mut server, _) = server.context("accepted")?;
        server.set_nonblocking(false)?;
        server.read_exact(&mut [0; 5])?;
        ensure!(
            runs(&bench)? == 2,
            "{} runs after a connection",
            runs(&bench)?
        );

        // A segment of a connection that is gone is looked up as if it were new, and reset.
        server.set_linger(Some(Duration::ZERO))?;
        drop(server);
        ensure!(client.recv_data(SOON)? == Reply::Reset, "no reset");
        client.send(b"too late")?;
        ensure!(
            client.recv_data(SOON)? == Reply::Reset,
            "no reset of a stray segment"
        );
        let outcomes = bench.outcomes(0)?;
        ensure!(outcomes.runs == 3 && outcomes.selected == 3, "{outcomes:?}");
        let given = bench.given(&[slot])?;
        ensure!(given == (3, 0), "{given:?}");
        Ok(())
    })
}

#[test]
fn without_a_table_the_kernel_chooses_and_that_is_counted() -> Result<()> {
    let mut bench = Bench::new()?;
    let (first, address) = bench.listen(0, any(Family::V4))?;
    let all = [vec![first], bench.listen_beside(0, address, 3)?].concat();
    let accepted = bench.connect(address, 200)?;
    ensure!(
        accepted.keys().eq(&all),
        "not spread by the kernel's hash: {accepted:?}"
    );
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.runs == 200 && outcomes.no_table == 200,
        "{outcomes:?}"
    );
    ensure!(
        bench.given(&all)? == (0, 0),
        "a slot was selected without a table"
    );

    bench.publish(&[&all[..1]])?;
    let accepted = bench.connect(address, 50)?;
    ensure!(accepted.keys().eq(&all[..1]), "{accepted:?}");
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.no_table == 200 && outcomes.selected == 50,
        "{outcomes:?}"
    );
    Ok(())
}

#[test]
fn an_endpoint_that_the_table_leaves_out_is_the_kernels() -> Result<()> {
    let mut bench = Bench::new()?;
    let (web, address) = bench.listen(0, any(Family::V4))?;
    let (admin, there) = bench.listen(1, any(Family::V6))?;
    let others = bench.listen_beside(1, there, 2)?;
    bench.publish(&[&[web]])?;
    let accepted = bench.connect(there, 120)?;
    let expected = [vec![admin], others].concat();
    ensure!(accepted.keys().eq(&expected), "{accepted:?}");
    let outcomes = bench.outcomes(1)?;
    ensure!(
        outcomes.runs == 120 && outcomes.no_table == 120,
        "{outcomes:?}"
    );
    // The other endpoint has counters of its own.
    ensure!(
        bench.connect(address, 30)?.keys().eq(&[web]),
        "others answer"
    );
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.runs == 30 && outcomes.selected == 30,
        "{outcomes:?}"
    );
    Ok(())
}

#[test]
fn when_all_of_a_table_are_gone_the_kernel_chooses_and_that_is_counted() -> Result<()> {
    let mut bench = Bench::new()?;
    let (old, address) = bench.listen(0, any(Family::V4))?;
    let table = bench.listen_beside(0, address, 3)?;
    bench.publish(&[&table])?;
    for slot in &table {
        bench.listeners.remove(slot);
    }
    let accepted = bench.connect(address, 40)?;
    ensure!(accepted.keys().eq(&[old]), "{accepted:?}");
    let outcomes = bench.outcomes(0)?;
    ensure!(
        outcomes.runs == 40 && outcomes.fell_back == 40,
        "{outcomes:?}"
    );
    Ok(())
}

#[test]
fn what_a_listener_was_given_stays_counted_when_its_slot_is_anothers() -> Result<()> {
    let mut bench = Bench::new()?;
    let (web, address) = bench.listen(0, any(Family::V4))?;
    let second = bench.listen_beside(0, address, 1)?[0];
    bench.publish(&[&[second]])?;
    bench.connect(address, 20)?;
    let before = bench.outcomes(0)?;
    ensure!(before.selected == 20, "{before:?}");

    bench.publish(&[&[web]])?;
    bench.listeners.remove(&second);
    bench.steering.clear(second)?;
    ensure!(bench.outcomes(0)? == before, "cleared: {before:?}");
    // The slot is another endpoint's now, and begins at 0.
    let (third, admin) = bench.listen(1, any(Family::V6))?;
    ensure!(third == second, "slot {third} is taken, not {second}");
    ensure!(bench.given(&[third])? == (0, 0), "it does not begin at 0");
    bench.publish(&[&[web], &[third]])?;
    bench.connect(admin, 5)?;
    let outcomes = (bench.outcomes(0)?, bench.outcomes(1)?);
    ensure!(outcomes.0 == before, "{outcomes:?}");
    ensure!(outcomes.1.selected == 5, "{outcomes:?}");
    // As is an endpoint's number that is another's.
    bench.listeners.remove(&third);
    bench.steering.clear(third)?;
    bench.steering.clear_endpoint(1)?;
    let outcomes = (bench.outcomes(0)?, bench.outcomes(1)?);
    ensure!(outcomes == (before, Outcomes::default()), "{outcomes:?}");
    // And the next agent counts the same.
    let (again, _) = bench.open_again()?;
    let found = (again.outcomes(0)?, again.outcomes(1)?);
    ensure!(found == outcomes, "{found:?}, not {outcomes:?}");
    Ok(())
}
