//! What happens to jobs.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What a machine tells; [`crate::Progress`] says in which order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// PID 1 runs, and can be heard.
    Booted,
    /// A job starts.
    Started {
        /// Its name.
        job: String,
    },
    /// It prints a line.
    Said {
        /// Its name.
        job: String,
        /// What it prints.
        line: String,
    },
    /// It has ended, and nothing is left of it.
    Ended {
        /// Its name.
        job: String,
        /// How.
        ended: Ended,
    },
    /// All jobs have ended. Nothing follows.
    Done,
    /// The machine cannot do what it was told. Nothing follows.
    Failed {
        /// The reason.
        why: String,
    },
}

/// What is known of a job when it has ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// From its start to its end.
    pub took: Duration,
    /// What a test misses that has skipped itself.
    pub skipped: Option<String>,
    /// The content of the file that it was to write.
    pub output: Option<String>,
}

/// How a job ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with success.
    Ok,
    /// By itself, with another code than 0.
    Failed {
        /// Its exit code.
        code: i32,
    },
    /// By a signal that was not ours.
    Signal {
        /// The number of the signal.
        number: i32,
    },
    /// It was killed when its time was over.
    Deadline,
    /// It could not be started, or not be followed.
    NotStarted {
        /// The reason.
        why: String,
    },
}

impl Event {
    /// As one line, with its end.
    ///
    /// # Errors
    ///
    /// None that is known: every event can be written as JSON.
    pub fn to_line(&self) -> Result<String> {
        let line = serde_json::to_string(self).context("write an event as JSON")?;
        Ok(line + "\n")
    }

    /// Reads such a line; none if it is something else, such as what a firmware prints.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ended well"),
            Self::Failed { code } => write!(f, "ended with code {code}"),
            Self::Signal { number } => write!(f, "was ended by signal {number}"),
            Self::Deadline => f.write_str("was killed at its deadline"),
            Self::NotStarted { why } => write!(f, "did not start: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_line_that_can_be_read_back() {
        let job = || "flip::half_open".to_owned();
        let ended = |end| Event::Ended {
            job: job(),
            ended: Ended {
                end,
                took: Duration::from_millis(1500),
                skipped: Some("netem".into()),
                output: Some("{\n}\n".into()),
            },
        };
        for event in [
            Event::Booted,
            Event::Started { job: job() },
            Event::Said {
                job: job(),
                line: "two\nlines \"and\" \u{fffd}".into(),
            },
            ended(End::Ok),
            ended(End::Failed { code: 101 }),
            ended(End::Signal { number: 11 }),
            ended(End::Deadline),
            ended(End::NotStarted { why: "no".into() }),
            Event::Done,
            Event::Failed { why: "no".into() },
        ] {
            let line = event.to_line().unwrap();
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
            assert_eq!(Event::from_line(&line), Some(event));
        }
        assert_eq!(Event::from_line("SeaBIOS (version 1.16)"), None);
    }
}
