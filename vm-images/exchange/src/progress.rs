//! How far a machine has come, by what it tells.

use std::mem;

use anyhow::{Result, bail, ensure};

use crate::{Ended, Event};

/// Follows a machine's events:
///
/// ```text
///  Booting ──Booted──▶ Working ──Done──▶ Done
///     │                │  ▲ │
///     │  Started, Said,└──┘ └──Failed──▶ Failed
///     └──────────────Failed────────────────▲
///         and Ended, of each job in turn
/// ```
///
/// A job starts once, says something only while it runs, and ends once; none runs when a machine
/// is done. Whatever comes otherwise, and whatever comes after the end, is an error.
#[derive(Debug, Default)]
pub struct Progress {
    /// How far the machine has come.
    pub state: State,
    /// Jobs that run.
    pub running: Vec<Ran>,
    /// Jobs that have ended.
    pub ended: Vec<(Ran, Ended)>,
}

/// How far a machine has come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// Nothing was heard of its PID 1 yet.
    #[default]
    Booting,
    /// It runs jobs.
    Working,
    /// All have ended.
    Done,
    /// It has given up, for this reason.
    Failed(String),
}

/// A job as it was seen to run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What it has printed.
    pub lines: Vec<String>,
}

impl Progress {
    /// Takes in an event; returns the job that has ended with it.
    ///
    /// # Errors
    ///
    /// When it cannot come now.
    pub fn take(&mut self, event: Event) -> Result<Option<&(Ran, Ended)>> {
        match (&self.state, event) {
            (State::Booting, Event::Booted) => self.state = State::Working,
            (State::Working, Event::Started { job }) => {
                let mut ended = self.ended.iter().map(|(ran, _)| ran);
                let known = ended.any(|ran| ran.name == job) || self.find(&job).is_some();
                ensure!(!known, "{job} starts a second time");
                self.running.push(Ran {
                    name: job,
                    lines: Vec::new(),
                });
            }
            (State::Working, Event::Said { job, line }) => match self.find(&job) {
                Some(at) => self.running[at].lines.push(line),
                None => bail!("{job} does not run, and says {line:?}"),
            },
            (State::Working, Event::Ended { job, ended }) => match self.find(&job) {
                Some(at) => {
                    let ran = mem::take(&mut self.running[at]);
                    self.running.remove(at);
                    self.ended.push((ran, ended));
                    return Ok(self.ended.last());
                }
                None => bail!("{job} does not run, and ends"),
            },
            (State::Working, Event::Done) if self.running.is_empty() => self.state = State::Done,
            (State::Booting | State::Working, Event::Failed { why }) => {
                self.state = State::Failed(why);
            }
            (state, event) => bail!("{event:?} cannot follow when the machine is {state:?}"),
        }
        Ok(None)
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed(_))
    }

    fn find(&self, job: &str) -> Option<usize> {
        self.running.iter().position(|ran| ran.name == job)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::End;

    fn started(job: &str) -> Event {
        Event::Started { job: job.into() }
    }

    fn said(job: &str, line: &str) -> Event {
        Event::Said {
            job: job.into(),
            line: line.into(),
        }
    }

    fn ended(job: &str) -> Event {
        Event::Ended {
            job: job.into(),
            ended: Ended {
                end: End::Ok,
                took: Duration::ZERO,
                skipped: None,
                output: None,
            },
        }
    }

    fn after(events: &[Event]) -> Result<Progress> {
        let mut progress = Progress::default();
        for event in events {
            progress.take(event.clone())?;
        }
        Ok(progress)
    }

    #[test]
    fn jobs_are_followed_beside_each_other_to_the_end() {
        let progress = after(&[
            Event::Booted,
            started("a"),
            started("b"),
            said("a", "of a"),
            said("b", "of b"),
            ended("b"),
            ended("a"),
            Event::Done,
        ])
        .unwrap();
        assert_eq!(progress.state, State::Done);
        let lines: Vec<_> = progress.ended.iter().map(|(ran, _)| &ran.lines).collect();
        assert_eq!(lines, [&["of b".to_owned()], &["of a".to_owned()]]);
    }

    #[test]
    fn a_machine_can_fail_at_any_time() {
        let failed = || Event::Failed { why: "no".into() };
        for before in [&[][..], &[Event::Booted], &[Event::Booted, started("a")]] {
            let progress = after(&[before, &[failed()]].concat()).unwrap();
            assert_eq!(progress.state, State::Failed("no".into()));
            assert!(progress.is_over());
        }
    }

    #[test]
    fn what_comes_out_of_turn_is_an_error() {
        let b = || Event::Booted;
        for events in [
            &[started("a")][..],
            &[Event::Done],
            &[b(), b()],
            &[b(), said("a", "x")],
            &[b(), ended("a")],
            &[b(), started("a"), started("a")],
            &[b(), started("a"), Event::Done],
            &[b(), started("a"), ended("a"), ended("a")],
            &[b(), started("a"), ended("a"), started("a")],
            &[b(), Event::Done, started("a")],
            &[b(), Event::Done, Event::Failed { why: "late".into() }],
        ] {
            assert!(after(events).is_err(), "{events:?}");
        }
    }
}
