//! Promise: a server that knows nothing of synflip can be adopted, and loses nothing either.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::{Fixture, Setup, fixture::find, network::answers, product::Generation};

use crate::helpers::{REGIMES, at_once::at_once};

fn adopted(fixture: &Fixture, number: u32, args: &[&str]) -> Result<Generation> {
    fixture.adopted(&fixture.spec(number, 2).args(args))
}

fn plain(fixture: &Fixture, number: u32, args: &[&str]) -> Result<Generation> {
    fixture.net.plain(&fixture.spec(number, 2).args(args))
}

fn adopt(fixture: &Fixture, server: &Generation, generation: &str) -> Result<()> {
    let adopted = fixture.agent.adopt(server.pid(), generation, &[])?;
    ensure!(adopted.code == 0, "{adopted:?}");
    Ok(())
}

#[test]
fn a_running_server_is_adopted_and_replaced() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = plain(&fixture, 1, &[])?;
    let load = fixture.net.load(8);
    load.more(20)?;
    adopt(&fixture, &first, "gen1")?;
    fixture.wait_works("gen1")?;
    // From now on, listening alone attracts nothing.
    let second = plain(&fixture, 2, &[])?;
    ensure!(
        fixture.net.answers(20)? == [1; 20],
        "the program is not attached"
    );
    adopt(&fixture, &second, "gen2")?;
    ensure!(fixture.net.answers(20)? == [1; 20], "adopting is no flip");
    load.more(20)?;
    let flip = fixture.agent.flip("gen2")?;
    ensure!(
        flip.drain
            .is_some_and(|drain| drain.drained_after_ms.is_some()),
        "not drained"
    );
    ensure!(fixture.net.answers(20)? == [2; 20]);
    // An operator's next step.
    drop(first);
    fixture.wait_gone("gen1")?;
    load.more(20)?;
    load.finish_unharmed()?;
    fixture.agent.check_counters()
}

#[test]
fn what_an_adopted_server_leaves_is_served_by_its_successor() -> Result<()> {
    at_once(REGIMES, |regime| {
        let fixture = Setup::new().agent_args(regime).start()?;
        let first = adopted(&fixture, 1, &["--stop-accepting"])?;
        fixture.wait_works("gen1")?;
        let waiting = fixture.net.clients(20)?;
        let _second = adopted(&fixture, 2, &[])?;
        fixture.agent.flip_with("gen2", &["--no-wait"])?;
        first.signal(Signal::KILL)?;
        ensure!(answers(waiting)? == [2; 20], "others answer");
        let relays = fixture.agent.log().contains("relaying");
        ensure!(relays || regime.is_empty(), "who else has served them?");
        fixture.wait_gone("gen1")
    })
    .map(drop)
}

#[test]
fn adopted_servers_and_others_replace_each_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let load = fixture.net.load(4);
    let second = adopted(&fixture, 2, &[])?;
    load.more(20)?;
    fixture.agent.flip("gen2")?;
    load.more(20)?;
    load.finish_unharmed()?;
    // What it leaves is handed over to one that can be handed something.
    let third = fixture.generation(3, &[])?;
    second.signal(Signal::STOP)?;
    let waiting = fixture.net.clients(10)?;
    second.signal(Signal::KILL)?;
    ensure!(answers(waiting)? == [3; 10]);
    ensure!(!fixture.agent.log().contains("relaying"), "not handed over");
    drop(third);
    Ok(())
}

#[test]
fn an_adopted_server_is_shown_after_the_agent_has_restarted() -> Result<()> {
    let mut fixture = Fixture::new()?;
    let server = adopted(&fixture, 1, &[])?;
    fixture.restart_agent()?;
    let service = fixture.agent.service()?;
    let pids = find(&service, "gen1").map(|generation| generation.pids.clone());
    ensure!(pids == Some(vec![server.pid()]), "{service:#?}");
    Ok(())
}

#[test]
fn what_cannot_be_adopted_is_refused_with_a_reason() -> Result<()> {
    let fixture = Fixture::new()?;
    let server = plain(&fixture, 1, &[])?;
    let (pid, agent) = (server.pid().to_string(), fixture.agent.pid().to_string());
    let other = ["--listen", "127.0.0.1:4999"];
    let cases: [(&[&str], &str); 4] = [
        (
            &["--pid", "4194304", "--service", "web"],
            "there is no process 4194304",
        ),
        (
            &["--pid", &agent, "--service", "web"],
            "has no listening TCP socket",
        ),
        (
            &["--pid", &pid, "--service", "web", other[0], other[1]],
            "no listening TCP socket on 127.0.0.1:4999",
        ),
        (&["--pid", &pid], "name it with --service"),
    ];
    for (args, why) in cases {
        let refused = fixture
            .agent
            .cli(&[&["adopt", "--generation", "gen1"], args].concat())?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(why),
            "{args:?}: {refused:?}"
        );
    }
    adopt(&fixture, &server, "gen1")?;
    let twice = fixture.agent.adopt(server.pid(), "gen2", &[])?;
    ensure!(
        twice.code == 1 && twice.stderr.contains("registered"),
        "{twice:?}"
    );
    ensure!(
        fixture.agent.service()?.generations.len() == 1,
        "half adopted"
    );
    Ok(())
}
