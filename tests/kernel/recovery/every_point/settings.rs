//! What is going on when the agent dies.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use synflip_agent::DieAt;

use crate::{
    bed::{answers, works},
    story::{Rest, Story, trickle},
};

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The first generation of a service registers.
    Founding,
    /// A second one registers, under load; systemd keeps what the agent holds.
    Joining,
    /// A flip under load, and the old generation's end.
    Flip,
    /// The same, and systemd keeps what the agent holds.
    StoredFlip,
    /// A flip back, whose old generation leaves a tombstone.
    Back,
    /// A generation that has never worked is retired, under load.
    Retiring,
    /// The working generation is killed with connections in its queues; systemd keeps what the
    /// agent holds, which nobody else does then.
    Death,
    /// An agent comes back and finds a service, under load.
    Return,
    /// The last generation leaves.
    End,
}

impl Setting {
    pub(crate) const ALL: &[Self] = &[
        Self::Founding,
        Self::Joining,
        Self::Flip,
        Self::StoredFlip,
        Self::Back,
        Self::Retiring,
        Self::Death,
        Self::Return,
        Self::End,
    ];

    /// Plays it with an agent that dies and is started again, or without anything of the kind;
    /// returns what is left.
    pub(crate) fn play(self, die_at: Option<DieAt>) -> Result<Rest> {
        match self {
            Self::Founding => founding(die_at),
            Self::Joining => joining(die_at),
            Self::Flip => flip(die_at, false),
            Self::StoredFlip => flip(die_at, true),
            Self::Back => back(die_at),
            Self::Retiring => retiring(die_at),
            Self::Death => death(die_at),
            Self::Return => comeback(die_at),
            Self::End => end(die_at),
        }
    }
}

fn founding(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(false, die_at)?;
    let first = story.start(&[])?;
    story.death(None)?;
    story.until_works("gen1")?;
    story.finish(None, vec![first])
}

fn joining(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(true, die_at)?;
    let first = story.first(&[])?;
    let load = trickle(&story.bed);
    let second = story.start(&[])?;
    story.death(Some(&load))?;
    let status = story.back(&["gen1", "gen2"])?;
    ensure!(works(&status, "gen1") && status.epoch == 1, "{status:#?}");
    story.flip("gen2")?;
    story.finish(Some(load), vec![first, second])
}

fn flip(die_at: Option<DieAt>, stored: bool) -> Result<Rest> {
    let mut story = Story::new(stored, die_at)?;
    let first = story.first(&[])?;
    let second = story.start(&[])?;
    let load = trickle(&story.bed);
    load.more(20)?;
    // What becomes of it depends on when the agent dies.
    let flip = story.bed.agent.cli(&["flip", "--to", "gen2"])?;
    ensure!(die_at.is_some() || flip.code == 0, "{flip:?}");
    story.death(Some(&load))?;
    story.back(&["gen2"])?;
    story.flip("gen2")?;
    story.ends(first)?;
    story.finish(Some(load), vec![second])
}

fn back(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(false, die_at)?;
    let first = story.first(&[])?;
    let second = story.start(&[])?;
    let load = trickle(&story.bed);
    load.more(20)?;
    story.bed.agent.flip_with("gen2", &["--keep"])?;
    // On IPv4 the newest listener is the first of its hash bucket.
    story.bed.agent.cli(&["flip", "--to", "gen1"])?;
    story.ends(second)?;
    story.death(Some(&load))?;
    let status = story.back(&["gen1"])?;
    ensure!(works(&status, "gen1") && status.epoch == 3, "{status:#?}");
    story.finish(Some(load), vec![first])
}

fn retiring(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(false, die_at)?;
    let first = story.first(&[])?;
    let second = story.start(&[])?;
    let load = trickle(&story.bed);
    let retired = ["retire", "--generation", "gen2"];
    story.bed.agent.cli(&retired)?;
    story.death(Some(&load))?;
    story.ends(second)?;
    let status = story.back(&["gen1"])?;
    ensure!(works(&status, "gen1") && status.epoch == 1, "{status:#?}");
    story.finish(Some(load), vec![first])
}

fn death(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(true, die_at)?;
    let first = story.first(&["--stop-accepting"])?;
    let second = story.start(&[])?;
    let waiting = story.bed.clients(30)?;
    let load = trickle(&story.bed);
    first.signal(Signal::KILL)?;
    story.death(None)?;
    ensure!(answers(waiting)? == [2; 30], "not all by the successor");
    load.more(20)?;
    story.finish(Some(load), vec![second])
}

fn comeback(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(false, None)?;
    let first = story.first(&[])?;
    let second = story.start(&[])?;
    let load = trickle(&story.bed);
    load.more(20)?;
    story.die_returning(die_at, &load)?;
    let status = story.back(&["gen1", "gen2"])?;
    ensure!(works(&status, "gen1") && status.epoch == 1, "{status:#?}");
    story.flip("gen2")?;
    story.finish(Some(load), vec![first, second])
}

fn end(die_at: Option<DieAt>) -> Result<Rest> {
    let mut story = Story::new(false, die_at)?;
    let first = story.first(&[])?;
    story.bed.answers(20)?;
    first.signal(Signal::TERM)?;
    story.ends(first)?;
    story.death(None)?;
    story.over()?;
    let again = story.start(&[])?;
    story.until_works("gen2")?;
    story.finish(None, vec![again])
}
