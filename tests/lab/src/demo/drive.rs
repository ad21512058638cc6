//! How is a schedule carried out?

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use synflip_bed::{
    kills::Death,
    load::{Progress, monotonic_us},
    product::name,
    wait::{self, MS},
};
use synflip_wire::Phase;

use super::{
    half::Flip,
    kill::{Kill, Victim},
    latency::Window,
    options::Settings,
    schedule::{Schedule, TAIL},
};
use crate::{
    command::{Interrupt, Screen, format},
    generator::Generator,
};

/// A way to replace a server: the half of a run that is not the same for both.
pub(super) trait Method {
    /// Starts generation `to` and begins to replace the one before it, which is killed while it
    /// is replaced if that is wanted; returns what it was doing then, and its death.
    fn begin(&mut self, to: u32, kill: Option<Victim>) -> Result<Option<(Phase, Death)>>;
    /// Whether the latest flip has got so far that another may begin.
    fn may_begin(&mut self) -> Result<bool>;
    /// Takes the flips that are over.
    fn finished(&mut self) -> Result<Vec<Finished>>;
    /// Flips that are not over.
    fn unfinished(&self) -> usize;
    /// How a flip ends of which there is no account of a drain.
    fn undrained(&self) -> &'static str;
}

/// What was done.
#[derive(Default)]
pub(super) struct Played {
    pub(super) flips: Vec<Flip>,
    pub(super) kills: Vec<Kill>,
}

/// A flip that is over.
pub(super) struct Finished {
    /// The generation that was replaced by the next.
    pub(super) from: u32,
    pub(super) window: Window,
    pub(super) drain: Option<Drain>,
}

/// What a flip with steering reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drain {
    pub(super) commit_ms: f64,
    pub(super) drain_ms: u64,
    /// In the accept queues at the commit.
    pub(super) queued: u64,
    /// In the handshake at the commit.
    pub(super) half_open: u64,
}

/// Makes the flips at their times, then stops the load and follows both to their end.
pub(super) fn drive(
    method: &mut dyn Method,
    load: &mut Generator,
    schedule: &Schedule,
    settings: &Settings,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Played> {
    let (begun, begun_us) = (Instant::now(), monotonic_us());
    let mut played = Played::default();
    let mut next = 0;
    let mut latest = begun;
    let mut stopped: Option<Instant> = None;
    loop {
        interrupt.check()?;
        let progress = load.progress()?;
        let elapsed = begun.elapsed();
        for finished in method.finished()? {
            let flip = Flip::new(finished, schedule);
            let counts = counts(progress, settings);
            screen.event(&event(elapsed, &flip, method.undrained(), &counts))?;
            played.flips.push(flip);
        }
        screen.state(|| {
            let counts = counts(progress, settings);
            state(
                elapsed,
                played.flips.last(),
                schedule.times().len(),
                &counts,
            )
        })?;

        let due = schedule.times().get(next);
        if due.is_some_and(|due| elapsed >= *due) && method.may_begin()? {
            next += 1;
            let replaced = u32::try_from(next)?;
            let victim = settings.kill_old.then(|| Victim::of(replaced));
            let killed = method.begin(replaced + 1, victim)?;
            latest = Instant::now();
            if let Some(((phase, death), victim)) = killed.zip(victim) {
                let kill = Kill {
                    generation: replaced,
                    victim,
                    phase,
                    at: Duration::from_micros(death.begun_us.saturating_sub(begun_us)),
                    death,
                    died_in_service: 0,
                };
                screen.event(&kill_event(&kill))?;
                played.kills.push(kill);
            }
        }
        match stopped {
            // Late flips, on a slow host, have their load too.
            None if due.is_none() && elapsed >= settings.duration && latest.elapsed() >= TAIL => {
                load.stop();
                stopped = Some(Instant::now());
            }
            Some(_) if load.has_ended() && method.unfinished() == 0 => return Ok(played),
            Some(stopped) => ensure!(
                stopped.elapsed() < ENDS_WITHIN,
                "the run did not end: {} flips are not over",
                method.unfinished()
            ),
            None => {}
        }
        wait::pause(2 * MS);
    }
}

fn event(elapsed: Duration, flip: &Flip, undrained: &str, counts: &str) -> String {
    let detail = match &flip.drain {
        Some(drain) => format!(
            "commit {:>8}  drain {:>8}  {:>3} queued {:>4} half-open",
            format::ms(drain.commit_ms),
            format::whole_ms(drain.drain_ms as f64),
            drain.queued,
            drain.half_open
        ),
        None => undrained.into(),
    };
    format!(
        "{:>6.2} s  {:<13}  {detail}  {counts}",
        elapsed.as_secs_f64(),
        format!("{} → {}", flip.old_name(), flip.new_name()),
    )
}

fn kill_event(kill: &Kill) -> String {
    format!(
        "{:>6.2} s  {:<13}  killed ({}): {}",
        kill.at.as_secs_f64(),
        name(kill.generation),
        kill.phase.as_str(),
        kill.account()
    )
}

fn state(elapsed: Duration, last: Option<&Flip>, flips: usize, counts: &str) -> String {
    let flip = last.map_or_else(
        || format!("0/{flips} flips"),
        |flip| format!("{}/{flips} flips, now {}", flip.from, flip.new_name()),
    );
    format!("{:>6.1} s  {flip}  {counts}", elapsed.as_secs_f64())
}

fn counts(progress: Progress, settings: &Settings) -> String {
    // Which of the two it was is known at the end.
    let lost = if settings.kill_old {
        "lost or died in service"
    } else {
        "lost"
    };
    let [ok, failed] = [progress.ok, progress.lost].map(format::count);
    format!("{ok} ok, {failed} {lost}")
}

/// Longer than the longest drain that `synflip flip` waits for, and the longest connection.
const ENDS_WITHIN: Duration = Duration::from_secs(140);
