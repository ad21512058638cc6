//! Promise: a server that knows nothing of synflip can be adopted, and loses nothing either.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_bed::product::{Generation, Spec};

#[path = "bed.rs"]
mod bed;

use bed::{ADDRESS, Bed, answers, find, works};

/// Starts a plain server, and adopts it as the generation of its name.
fn adopted(bed: &Bed, number: u32, args: &[&str]) -> Result<Generation> {
    let server = plain(bed, number, args)?;
    adopt(bed, &server, &server.name)?;
    Ok(server)
}

fn plain(bed: &Bed, number: u32, args: &[&str]) -> Result<Generation> {
    let spec = Spec::new(number, ADDRESS, 2);
    let spec = args.iter().fold(spec, |spec, arg| spec.arg(arg));
    Generation::start_plain(&bed.netns, &spec)
}

fn adopt(bed: &Bed, server: &Generation, generation: &str) -> Result<()> {
    let pid = server.pid().to_string();
    let args = ["adopt", "--service", "web", "--generation", generation];
    let adopted = bed
        .agent
        .cli(&[args.as_slice(), &["--pid", &pid]].concat())?;
    ensure!(adopted.code == 0, "{adopted:?}");
    Ok(())
}

fn a_running_server_is_adopted_and_replaced() -> Result<()> {
    let bed = Bed::new()?;
    let first = plain(&bed, 1, &[])?;
    let load = bed.load(8);
    load.more(20)?;
    adopt(&bed, &first, "gen1")?;
    bed.until("the first works", |service| works(service, "gen1"))?;
    // From now on, listening alone attracts nothing.
    let second = plain(&bed, 2, &[])?;
    ensure!(bed.answers(20)? == [1; 20], "the program is not attached");
    adopt(&bed, &second, "gen2")?;
    ensure!(bed.answers(20)? == [1; 20], "adopting is no flip");
    load.more(20)?;
    let flip = bed.agent.flip("gen2")?;
    ensure!(
        flip.drain
            .is_some_and(|drain| drain.drained_after_ms.is_some()),
        "not drained"
    );
    ensure!(bed.answers(20)? == [2; 20]);
    // An operator's next step.
    drop(first);
    bed.until("the first is forgotten", |service| {
        find(service, "gen1").is_none()
    })?;
    load.more(20)?;
    load.finish_unharmed()?;
    bed.agent.check_counters()
}

fn what_an_adopted_server_leaves_is_served_by_its_successor() -> Result<()> {
    for regime in [&[] as &[&str], &["--no-migration"]] {
        let bed = Bed::with(regime)?;
        let first = adopted(&bed, 1, &["--stop-accepting"])?;
        bed.until("the first works", |service| works(service, "gen1"))?;
        let waiting = bed.clients(20)?;
        let _second = adopted(&bed, 2, &[])?;
        bed.agent.flip_with("gen2", &["--no-wait"])?;
        first.signal(Signal::KILL)?;
        ensure!(answers(waiting)? == [2; 20], "{regime:?}");
        let relays = bed.agent.log().contains("relaying");
        ensure!(relays || regime.is_empty(), "who else has served them?");
        bed.until("the first is gone", |service| {
            service.generations.len() == 1
        })?;
    }
    Ok(())
}

fn adopted_servers_and_others_replace_each_other() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let load = bed.load(4);
    let second = adopted(&bed, 2, &[])?;
    load.more(20)?;
    bed.agent.flip("gen2")?;
    load.more(20)?;
    load.finish_unharmed()?;
    // What it leaves is handed over to one that can be handed something.
    let third = bed.generation(3, &[])?;
    second.signal(Signal::STOP)?;
    let waiting = bed.clients(10)?;
    second.signal(Signal::KILL)?;
    ensure!(answers(waiting)? == [3; 10]);
    ensure!(!bed.agent.log().contains("relaying"), "not handed over");
    drop(third);
    Ok(())
}

fn what_cannot_be_adopted_is_refused_with_a_reason() -> Result<()> {
    let bed = Bed::new()?;
    let server = plain(&bed, 1, &[])?;
    let (pid, agent) = (server.pid().to_string(), bed.agent.pid().to_string());
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
        let refused = bed
            .agent
            .cli(&[&["adopt", "--generation", "gen1"], args].concat())?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(why),
            "{args:?}: {refused:?}"
        );
    }
    adopt(&bed, &server, "gen1")?;
    let args = [
        "adopt",
        "--service",
        "web",
        "--generation",
        "gen2",
        "--pid",
        &pid,
    ];
    let twice = bed.agent.cli(&args)?;
    ensure!(
        twice.code == 1 && twice.stderr.contains("registered"),
        "{twice:?}"
    );
    ensure!(bed.agent.service()?.generations.len() == 1, "half adopted");
    Ok(())
}

#[cfg(test)]
mod tests {
    synflip_bed::promises! {
        a_running_server_is_adopted_and_replaced
        what_an_adopted_server_leaves_is_served_by_its_successor
        adopted_servers_and_others_replace_each_other
        what_cannot_be_adopted_is_refused_with_a_reason
    }
}
