//! A test that was run, and what to think of that.

use serde::Serialize;
use synflip_exchange::{End, Ended};

/// A test that was run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TestRun {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// Why it failed, or what it misses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    pub(crate) seconds: f64,
    /// What it has printed.
    #[serde(skip)]
    pub(crate) lines: Vec<String>,
    /// What it has written.
    #[serde(skip)]
    pub(crate) output: Option<String>,
}

/// What came of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Failed,
    Skipped,
}

impl TestRun {
    /// Judges a test by how it has ended: one that skips itself fails, unless it misses something
    /// that the kernel is declared to lack.
    pub(crate) fn judge(name: String, lines: Vec<String>, ended: &Ended, lacks: &[String]) -> Self {
        let (verdict, why) = match (&ended.end, &ended.skipped) {
            (End::Ok, None) => (Verdict::Ok, None),
            (End::Ok, Some(missed)) if lacks.contains(missed) => {
                (Verdict::Skipped, Some(format!("needs {missed}")))
            }
            (End::Ok, Some(missed)) => (
                Verdict::Failed,
                Some(format!(
                    "skipped itself (needs {missed}), which vm-images/kernels.toml does not declare"
                )),
            ),
            (end, _) => (Verdict::Failed, Some(end.to_string())),
        };
        Self {
            name,
            verdict,
            why,
            seconds: ended.took.as_secs_f64(),
            lines,
            output: ended.output.clone(),
        }
    }

    /// A test that nothing was heard of, or not to its end.
    pub(crate) fn unfinished(name: String, why: &str) -> Self {
        Self {
            name,
            verdict: Verdict::Failed,
            why: Some(why.to_owned()),
            seconds: 0.0,
            lines: Vec::new(),
            output: None,
        }
    }

    /// Its name and its seconds, if it has passed: otherwise these say nothing.
    pub(crate) fn time(&self) -> Option<(String, f64)> {
        (self.verdict == Verdict::Ok).then(|| (self.name.clone(), self.seconds))
    }

    pub(crate) fn failed(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    /// What it is about: the first module of its name, if it is in one.
    pub(crate) fn group(&self) -> &str {
        self.name.split_once("::").map_or("", |(first, _)| first)
    }

    /// What people want to see of it: its end, and what it has said about itself.
    pub(crate) fn shown(&self) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        let why = self.why.iter().map(|why| format!(": {why}"));
        let first = format!(
            "{verdict:7} {:6.1} s  {}{}",
            self.seconds,
            self.name,
            why.collect::<String>()
        );
        let said = self.lines.iter().filter(|line| !self.is_frame(line));
        let said = said.map(|line| format!("                  {line}"));
        [first].into_iter().chain(said).collect()
    }

    /// Whether a line is of the frame that the test harness puts around a test.
    fn is_frame(&self, line: &str) -> bool {
        let frames = ["running 1 test", "test result: ok. "];
        line.is_empty()
            || frames.iter().any(|frame| line.starts_with(frame))
            || *line == format!("test {} ... ok", self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(end: End, skipped: Option<&str>, lines: &[&str]) -> TestRun {
        let ended = Ended {
            end,
            took: Duration::from_millis(3250),
            skipped: skipped.map(str::to_owned),
            output: None,
        };
        let lines = lines.iter().map(ToString::to_string).collect();
        TestRun::judge("flip::a".to_owned(), lines, &ended, &["netem".to_owned()])
    }

    #[test]
    fn a_skip_fails_unless_it_is_declared() {
        assert_eq!(judged(End::Ok, None, &[]).verdict, Verdict::Ok);
        assert_eq!(
            judged(End::Ok, Some("netem"), &[]).verdict,
            Verdict::Skipped
        );
        let undeclared = judged(End::Ok, Some("migration"), &[]);
        assert!(undeclared.failed() && undeclared.why.unwrap().contains("does not declare"));
        assert!(judged(End::Failed { code: 101 }, Some("netem"), &[]).failed());
        assert!(judged(End::Deadline, None, &[]).failed());
    }

    #[test]
    fn the_harness_is_not_shown() {
        let lines = [
            "",
            "running 1 test",
            "SYNFLIP_SEED=7",
            "test flip::a ... ok",
            "",
        ];
        let shown = judged(End::Ok, None, &lines).shown();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert_eq!(shown[0], "ok         3.2 s  flip::a");
        assert_eq!(shown[1].trim_start(), "SYNFLIP_SEED=7");
        assert_eq!(judged(End::Ok, None, &[]).group(), "flip");
    }
}
