//! A4: an endpoint that one generation lacks blocks everything: no generation takes over, none is
//! gone back to, and no port can ever be taken out of a service.

use anyhow::{Result, ensure};
use serde_json::Value;
use synflip_bed::{
    Fixture, Setup,
    product::{Generation, Spec},
    wait::{self, MS, SECOND},
};

use crate::{
    black_box::{Operate as _, PATIENCE, ask, ask_at, second_port},
    safe_if,
    verdict::{Verdict, hazard},
};

/// A ready successor that lacks one port.
#[test]
fn a04a_no_successor_without_each_endpoint() -> Result<()> {
    hazard("A4a", || {
        let fixture = Setup::new().agent_args(&["--hold", "2"]).start()?;
        let old = working(&fixture, &both(&fixture, 1))?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        old.kill()?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.from(2) == 20,
            "gen1 (two ports) is dead, gen2 (one port) is ready: of 20 clients of that port {} \
             hang and {} are reset",
            answers.hung,
            answers.reset
        );
        ends_with_hold(&fixture)
    })
}

/// A dead process with an endpoint of its own, then one of two that share the other.
#[test]
fn a04b_no_refresh_without_each_endpoint() -> Result<()> {
    hazard("A4b", || {
        let fixture = Fixture::new()?;
        let net = &fixture.net;
        let a1 = working(&fixture, &fixture.spec(1, 1))?;
        let _a2 = fixture.start(&fixture.spec(2, 1).joins("gen1"))?;
        let b = fixture.start(&Spec::new(3, second_port(&fixture.net), 1).joins("gen1"))?;
        fixture
            .agent
            .wait_until("all are in the table", |service| {
                let asked = ask(net, 8, PATIENCE)
                    .and_then(|_| ask_at(net, second_port(&fixture.net), 1, PATIENCE));
                let listeners = service["generations"][0]["listeners"].as_array();
                let selected = |listener: &Value| listener["selected"].as_u64() > Some(0);
                asked.is_ok()
                    && listeners.is_some_and(|all| all.len() == 3 && all.iter().all(selected))
            })?;
        b.kill()?;
        fixture.agent.wait_until("that is noticed", |service| {
            service["generations"][0]["pids"].as_array().map(Vec::len) == Some(2)
        })?;
        a1.kill()?;
        let answers = ask(net, 20, PATIENCE)?;
        safe_if!(
            answers.from(2) == 20,
            "the only process of one port is dead, then one of two of the other: of 20 clients of \
             that {} hang and {} are reset",
            answers.hung,
            answers.reset
        );
        Ok(Verdict::Safe)
    })
}

/// A generation in standby that lacks a port which the working one has added.
#[test]
fn a04c_no_way_back_without_each_endpoint() -> Result<()> {
    hazard("A4c", || {
        let fixture = Setup::new().agent_args(&["--hold", "2"]).start()?;
        let _old = working(&fixture, &fixture.spec(1, 2))?;
        let new = fixture.start(&both(&fixture, 2))?;
        flip_and_keep(&fixture)?;
        new.kill()?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.from(1) == 20,
            "gen2 has added a port and is dead, gen1 is in standby: of 20 clients of gen1's port \
             {} hang and {} are reset",
            answers.hung,
            answers.reset
        );
        ends_with_hold(&fixture)
    })
}

/// A rollback from a generation that has added a port, and a port that is to go.
#[test]
fn a04d_no_endpoint_can_be_dropped() -> Result<()> {
    hazard("A4d", || {
        let fixture = Fixture::new()?;
        let _old = working(&fixture, &fixture.spec(1, 2))?;
        let _new = fixture.start(&both(&fixture, 2))?;
        flip_and_keep(&fixture)?;
        let back = fixture.agent.tried(&["rollback", "--keep", "--json"])?;
        safe_if!(
            back.code == 0,
            "no rollback from a generation that has added a port: {}",
            back.stderr.trim()
        );

        let fixture = Fixture::new()?;
        let _old = working(&fixture, &both(&fixture, 1))?;
        let _new = fixture.start(&fixture.spec(2, 2))?;
        let port = second_port(&fixture.net).to_string();
        let flip = ["flip", "--to", "gen2", "--drop-endpoint", &port, "--json"];
        let dropped = fixture.agent.tried(&flip)?;
        safe_if!(
            dropped.code == 0,
            "no port can be taken out of a service: {}",
            dropped.stderr.trim()
        );
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        ensure!(answers.from(2) == 20, "{answers:?}");
        nobody_hangs(&fixture)
    })
}

/// A generation with two ports.
fn both(fixture: &Fixture, number: u32) -> Spec {
    let mut spec = fixture.spec(number, 2);
    spec.listen.push(second_port(&fixture.net));
    spec
}

/// Starts a server, and waits until its generation works.
fn working(fixture: &Fixture, spec: &Spec) -> Result<Generation> {
    let server = fixture.start(spec)?;
    fixture.agent.wait_works(&server.name)?;
    Ok(server)
}

/// Flips to gen2; gen1 becomes a standby.
fn flip_and_keep(fixture: &Fixture) -> Result<()> {
    let flip = ["flip", "--to", "gen2", "--keep", "--json"];
    fixture.agent.told(&flip).map(drop)
}

/// Whether the clients of the other port, for which nobody listens, are refused in the end.
fn ends_with_hold(fixture: &Fixture) -> Result<Verdict> {
    wait::pause(3 * SECOND);
    nobody_hangs(fixture)
}

fn nobody_hangs(fixture: &Fixture) -> Result<Verdict> {
    let answers = ask_at(&fixture.net, second_port(&fixture.net), 5, 500 * MS)?;
    safe_if!(
        answers.hung == 0,
        "of 5 clients of the port that nobody has {} hang after the hold time",
        answers.hung
    );
    Ok(Verdict::Safe)
}
