//! How is a schedule carried out?

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    Interrupt, format,
    half::Flip,
    latency::Window,
    load::Load,
    schedule::{Schedule, TAIL},
    screen::Screen,
};
use crate::{load::Progress, wait};

/// A way to replace a server: the half of a run that is not the same for both.
pub(super) trait Method {
    /// Starts generation `to` and begins to replace the one before it.
    fn begin(&mut self, to: u32) -> Result<()>;
    /// Whether the latest flip has got so far that another may begin.
    fn may_begin(&mut self) -> Result<bool>;
    /// Takes the flips that are over.
    fn finished(&mut self) -> Result<Vec<Finished>>;
    /// Flips that are not over.
    fn unfinished(&self) -> usize;
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
    load: &mut Load,
    schedule: &Schedule,
    duration: Duration,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> Result<Vec<Flip>> {
    let begun = Instant::now();
    let mut flips = Vec::new();
    let mut next = 0;
    let mut latest = begun;
    let mut stopped: Option<Instant> = None;
    loop {
        interrupt.check()?;
        let progress = load.progress()?;
        let elapsed = begun.elapsed();
        for finished in method.finished()? {
            let flip = Flip::new(finished, schedule);
            screen.event(&event(elapsed, &flip, progress))?;
            flips.push(flip);
        }
        screen.state(|| state(elapsed, flips.last(), schedule.times().len(), progress))?;

        let due = schedule.times().get(next);
        if due.is_some_and(|due| elapsed >= *due) && method.may_begin()? {
            next += 1;
            method.begin(u32::try_from(next)? + 1)?;
            latest = Instant::now();
        }
        match stopped {
            // Late flips, on a slow host, have their load too.
            None if due.is_none() && elapsed >= duration && latest.elapsed() >= TAIL => {
                load.stop();
                stopped = Some(Instant::now());
            }
            Some(_) if load.has_ended() && method.unfinished() == 0 => return Ok(flips),
            Some(stopped) => ensure!(
                stopped.elapsed() < ENDS_WITHIN,
                "the run did not end: {} flips are not over",
                method.unfinished()
            ),
            None => {}
        }
        wait::pause(TICK);
    }
}

fn event(elapsed: Duration, flip: &Flip, progress: Progress) -> String {
    let detail = match &flip.drain {
        Some(drain) => format!(
            "commit {:>8}  drain {:>8}  {:>3} queued {:>4} half-open",
            format::ms(drain.commit_ms),
            format::whole_ms(drain.drain_ms as f64),
            drain.queued,
            drain.half_open
        ),
        None => "the old server closed at once".into(),
    };
    format!(
        "{:>6.2} s  {:<13}  {detail}  {}",
        elapsed.as_secs_f64(),
        format!("{} → {}", flip.old_name(), flip.new_name()),
        counts(progress)
    )
}

fn state(elapsed: Duration, last: Option<&Flip>, flips: usize, progress: Progress) -> String {
    let flip = last.map_or_else(
        || format!("0/{flips} flips"),
        |flip| format!("{}/{flips} flips, now {}", flip.from, flip.new_name()),
    );
    format!(
        "{:>6.1} s  {flip}  {}",
        elapsed.as_secs_f64(),
        counts(progress)
    )
}

fn counts(progress: Progress) -> String {
    format!(
        "{} ok, {} lost",
        format::count(progress.ok),
        format::count(progress.lost)
    )
}

const TICK: Duration = Duration::from_millis(2);
/// Longer than the longest drain that `synflip flip` waits for, and the longest connection.
const ENDS_WITHIN: Duration = Duration::from_secs(140);
