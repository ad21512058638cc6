//! Promise: what the iterator tells of a listener is what the kernel's table says, and more.

use std::{fs, net::SocketAddr, os::fd::AsFd as _, thread};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::fstat,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use socket2::Socket;
use synflip_abi::Looked;
use synflip_bed::{
    Family, Netns, attach_classic_program, detach_program,
    network::FAST_OPEN,
    raw::{self, HalfOpen, RawClient, Reply, SynOptions},
    wait::{self, SOON},
};
use synflip_bpf::{Listeners, Looker, Object};

use super::bench::{Bench, any, listener};

#[test]
fn a_look_tells_what_the_table_does() -> Result<()> {
    Family::both(|family| {
        let mut bench = Bench::new()?;
        let wire = RawClient::new(&bench.netns)?;
        let (slot, to) = bench.listen(0, (raw::server(family), 0).into())?;
        bench.publish(&[&[slot]])?;
        let mut listeners = looks(&bench)?;
        let expect = |listeners: &Listeners, half_open, queued| {
            wait::until("the look is as it should be", SOON, || {
                let Ok(found) = look(listeners, &bench.listeners[&slot].1) else {
                    return false;
                };
                let refcnt = 1 + half_open + queued;
                let of_table = table(&bench.netns, family, &bench.listeners[&slot].1);
                (found.refcnt, found.half_open, found.queued) == (refcnt, half_open, queued)
                    && of_table.is_ok_and(|table| table == (refcnt, queued))
            })?;
            look(listeners, &bench.listeners[&slot].1)
        };
        listeners.add(bench.listeners[&slot].1.as_fd())?;
        let idle = expect(&listeners, 0, 0)?;
        ensure!(
            idle.listens && idle.in_slot && idle.steered && idle.program != 0,
            "{idle:?}"
        );
        let others = (idle.fast_open, idle.head, idle.members, idle.files);
        ensure!(others == (0, None, 1, 1), "{idle:?}");
        ensure!(idle.max_queued == 1024, "{idle:?}");

        let mut clients = (0..5)
            .map(|number| begin(&wire, (raw::client(family, 7, 5000 + number), to)))
            .collect::<Result<Vec<_>>>()?;
        expect(&listeners, 5, 0)?;
        clients[3].ack()?;
        let one = expect(&listeners, 4, 1)?;
        clients[1].ack()?;
        let two = expect(&listeners, 3, 2)?;
        ensure!(
            one.head.is_some() && one.head == two.head,
            "{one:?}, {two:?}"
        );
        let _accepted = bench.listeners[&slot].1.accept()?;
        let next = expect(&listeners, 3, 1)?;
        ensure!(next.head.is_some() && next.head != two.head, "{next:?}");
        clients[0].rst()?;
        expect(&listeners, 2, 1)?;
        Ok(())
    })
}

#[test]
fn a_look_tells_who_else_is_there() -> Result<()> {
    Family::both(|family| {
        let mut bench = Bench::new()?;
        let (slot, to) = bench.listen(0, any(family))?;
        let beside = bench.listen_beside(0, to, 1)?[0];
        let mut listeners = looks(&bench)?;
        let [one, two] = [slot, beside].map(|slot| &bench.listeners[&slot].1);
        listeners.add(one.as_fd())?;
        listeners.add(two.as_fd())?;
        let (first, second) = (look(&listeners, one)?, look(&listeners, two)?);
        let programs = [first.program, second.program].map(Some);
        let own = bench.steering.program_id(0);
        ensure!(
            own.is_some() && programs == [own; 2],
            "{own:?}, {programs:?}"
        );
        ensure!((first.members, second.members) == (2, 2), "{first:?}");

        let stranger = bench.netns.run(|| listener(to))?;
        ensure!(look(&listeners, one)?.members == 3, "no stranger");
        drop(stranger);
        wait::until("it is gone", SOON, || {
            look(&listeners, one).is_ok_and(|look| look.members == 2)
        })?;

        let duplicate = one.try_clone()?;
        ensure!(look(&listeners, one)?.files == 2, "no second holder");
        drop(duplicate);
        ensure!(look(&listeners, one)?.files == 1, "a second holder");

        attach_classic_program(one, 0)?;
        let classic = look(&listeners, two)?;
        ensure!(classic.steered && classic.program == 0, "{classic:?}");
        detach_program(one)?;
        ensure!(!look(&listeners, two)?.steered, "still steered");

        // What is added twice is there once.
        listeners.add(one.as_fd())?;
        ensure!(listeners.look()?.len() == 2, "not two");
        one.shutdown(std::net::Shutdown::Read)?;
        let ended = look(&listeners, one)?;
        ensure!(!ended.listens && !ended.in_slot, "{ended:?}");
        one.listen(1)?;
        let again = look(&listeners, one)?;
        ensure!(again.listens && !again.in_slot, "{again:?}");
        bench.listeners.remove(&slot);
        wait::until("it is closed", SOON, || {
            listeners.look().is_ok_and(|looks| looks.len() == 1)
        })
    })
}

#[test]
fn a_parked_request_is_told_from_a_pending_one() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.netns.sysctl(FAST_OPEN.0, FAST_OPEN.1)?;
    let wire = RawClient::new(&bench.netns)?;
    let (slot, to) = bench.listen(0, (raw::server(Family::V4), 0).into())?;
    let mut listeners = looks(&bench)?;
    let socket = &bench.listeners[&slot].1;
    listeners.add(socket.as_fd())?;
    let from = raw::client(Family::V4, 7, 5000);
    let mut asking = begin_with(&wire, (from, to), Vec::new(), &[])?;
    let cookie = asking.syn_ack().and_then(|syn| syn.fast_open_cookie());
    let cookie = cookie.context("no cookie")?.to_vec();
    asking.rst()?;
    let figures = || {
        let looked = look(&listeners, socket)?;
        Ok::<_, anyhow::Error>((looked.refcnt, looked.queued, looked.fast_open))
    };
    let expect = |figures_are: (u32, u32, u32)| {
        wait::until("the look is as it should be", SOON, || {
            figures().is_ok_and(|figures| figures == figures_are)
        })
    };
    expect((1, 0, 0))?;
    let from = raw::client(Family::V4, 7, 5001);
    let mut early = begin_with(&wire, (from, to), cookie, b"early")?;
    expect((2, 1, 1))?;
    let _accepted = socket.accept()?;
    expect((2, 0, 1))?;
    early.rst()?;
    wait::pause(wait::MS * 50);
    ensure!(figures()? == (2, 0, 1), "not parked: {:?}", figures()?);
    // Somebody who has just begun is not taken for one.
    let from = raw::client(Family::V4, 7, 5002);
    let _half_open = begin(&wire, (from, to))?;
    expect((3, 0, 1))
}

#[test]
fn many_listeners_are_all_seen() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut listeners = looks(&bench)?;
    let mut open = Vec::new();
    for _ in 0..MANY {
        let socket = bench.netns.run(|| listener(any(Family::V4)))?;
        socket.cookie()?;
        listeners.add(socket.as_fd())?;
        open.push(socket);
    }
    let mut seen: Vec<u64> = listeners.look()?.iter().map(|look| look.cookie).collect();
    seen.sort_unstable();
    seen.dedup();
    ensure!(seen.len() == MANY, "{} of {MANY}", seen.len());
    // Not those of another service.
    let (slot, _) = bench.listen(0, any(Family::V4))?;
    let other = Bench::new()?;
    let mut others = looks(&other)?;
    others.add(bench.listeners[&slot].1.as_fd())?;
    ensure!(others.look()?.len() == 1, "services are mixed");
    ensure!(listeners.look()?.len() == MANY, "services are mixed");
    Ok(())
}

#[test]
fn whoever_may_not_load_the_iterator_takes_the_pinned_one() -> Result<()> {
    let mut bench = Bench::new()?;
    let (slot, _) = bench.listen(0, any(Family::V4))?;
    let (bpffs, object) = (bench.pins.path(), Object::default());
    let with_less = |look: &(dyn Fn() -> Result<()> + Sync)| {
        let looking = || {
            let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
            let sets = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            };
            // Of this thread only.
            set_capabilities(None, sets)?;
            look()
        };
        thread::scope(|scope| scope.spawn(looking).join())
            .map_err(|_panic| anyhow::anyhow!("panicked"))?
    };
    with_less(&|| {
        let refused = Looker::open(bpffs, &object);
        ensure!(refused.is_err(), "loaded without CAP_PERFMON");
        Ok(())
    })?;
    // Twice: the pin is replaced.
    for _ in 0..2 {
        Looker::open(bpffs, &object)?;
    }
    with_less(&|| {
        let looker = Looker::open(bpffs, &object)?;
        let mut listeners = looker.of_service(bench.steering.dir())?;
        let socket = &bench.listeners[&slot].1;
        listeners.add(socket.as_fd())?;
        ensure!(look(&listeners, socket)?.refcnt == 1, "no look");
        Ok(())
    })
}

/// More than fit into what the kernel gives at once.
const MANY: usize = 2000;

fn looks(bench: &Bench) -> Result<Listeners> {
    let looker = Looker::load(&Object::default())?;
    Ok(looker.of_service(bench.steering.dir())?)
}

fn look(listeners: &Listeners, socket: &Socket) -> Result<Looked> {
    let cookie = socket.cookie()?;
    let looks = listeners.look()?;
    let found = looks.into_iter().find(|look| look.cookie == cookie);
    found.context("it is not among those that are looked at")
}

/// A listener's reference count and queue as the kernel's table has them.
fn table(netns: &Netns, family: Family, socket: &Socket) -> Result<(u32, u32)> {
    let inode = fstat(socket)?.st_ino.to_string();
    let name = match family {
        Family::V4 => "tcp",
        Family::V6 => "tcp6",
    };
    let path = format!("/proc/thread-self/net/{name}");
    let text = netns.run(|| fs::read_to_string(path))?;
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let line = lines.find(|line| line.clone().nth(9) == Some(&inode));
    let line: Vec<&str> = line.context("no line")?.collect();
    let (_, queued) = line[4].split_once(':').context("no queue")?;
    Ok((line[10].parse()?, u32::from_str_radix(queued, 16)?))
}

fn begin(wire: &RawClient, flow: (SocketAddr, SocketAddr)) -> Result<HalfOpen> {
    answered(wire.syn(flow.0, flow.1)?)
}

fn begin_with(
    wire: &RawClient,
    flow: (SocketAddr, SocketAddr),
    cookie: Vec<u8>,
    data: &[u8],
) -> Result<HalfOpen> {
    let options = SynOptions {
        mss: Some(1400),
        fast_open: Some(cookie),
        data: data.to_vec(),
    };
    answered(wire.syn_with(flow.0, flow.1, &options)?)
}

fn answered(mut client: HalfOpen) -> Result<HalfOpen> {
    let reply = client.recv_syn_ack(SOON)?;
    ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
    Ok(client)
}
