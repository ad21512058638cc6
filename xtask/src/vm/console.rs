//! What a machine tells over its two serial ports, as far as it has come.
//!
//! The first port is the kernel's: most of it is kept only for the log, but a panic, an oops, a
//! stall or a warning is a failure, with its trace. The second is `synflip-init`'s, one event a
//! line; only it says that a job has ended, and that all have.

use std::{collections::VecDeque, time::Duration};

/// The story so far.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) phase: Phase,
    /// Those that have ended, and the one that runs.
    pub(crate) jobs: Vec<Ran>,
    /// What went wrong in the machine itself, each with its trace.
    pub(crate) troubles: Vec<Vec<String>>,
    /// The last lines of both ports.
    pub(crate) last: VecDeque<String>,
    /// The last trouble's trace goes on.
    tracing: bool,
}

/// How far the machine has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was heard of its PID 1 yet.
    #[default]
    Booting,
    /// A job runs.
    Running,
    /// Between two jobs, or after the last.
    Idle,
    /// Everything has been run, or nothing can be.
    Over,
}

/// A job as it was seen to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ran {
    pub(crate) name: String,
    /// What it printed.
    pub(crate) lines: Vec<String>,
    /// The file that it wrote.
    pub(crate) data: String,
    /// How it ended, in one word; `ok` is the good one.
    pub(crate) end: Option<String>,
    pub(crate) took: Duration,
}

impl Story {
    /// Takes in a line of the kernel's port.
    pub(crate) fn kernel(&mut self, line: &str) {
        self.remember(line);
        let text = without_time(line);
        // What comes within a trace is part of it: an oops begins with two such lines.
        if !self.tracing && is_trouble(text) {
            self.troubles.push(Vec::new());
            self.tracing = true;
        }
        if let Some(trace) = self.troubles.last_mut().filter(|_| self.tracing) {
            trace.push(line.to_owned());
            self.tracing = !text.starts_with("---[ end ") && trace.len() < LONGEST_TRACE;
        }
    }

    /// Takes in a line of the second port; returns what a person wants to see of it.
    pub(crate) fn report<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        self.remember(line);
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (keyword, self.jobs.last_mut()) {
            ("start", _) => {
                let name = rest.to_owned();
                self.jobs.push(Ran {
                    name,
                    ..Ran::default()
                });
                self.phase = Phase::Running;
            }
            ("say", Some(job)) => {
                job.lines.push(rest.to_owned());
                return Some(rest);
            }
            ("data", Some(job)) => {
                job.data.push_str(rest);
                job.data.push('\n');
            }
            ("end", Some(job)) => {
                let mut words = rest.split(' ').skip(1);
                job.end = words.next().map(str::to_owned);
                let ms = words.next().and_then(|ms| ms.parse().ok());
                job.took = Duration::from_millis(ms.unwrap_or(0));
                self.phase = Phase::Idle;
            }
            ("done", _) => self.phase = Phase::Over,
            ("fatal", _) => {
                self.troubles.push(vec![format!("PID 1: {rest}")]);
                self.phase = Phase::Over;
            }
            // What QEMU itself or the firmware has to say.
            _ => {}
        }
        None
    }

    /// Records that the machine was killed for a reason, with what it said last.
    pub(crate) fn killed(&mut self, why: &str) {
        let mut trouble = vec![why.to_owned(), "it said last:".to_owned()];
        trouble.extend(self.last.iter().cloned());
        self.troubles.push(trouble);
    }

    /// Records that the machine has ended; it should not have before everything was run.
    pub(crate) fn ended(&mut self) {
        if self.phase != Phase::Over {
            self.killed("the machine ended by itself");
        }
    }

    fn remember(&mut self, line: &str) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
}

/// Whether a line of the kernel begins a report of something that must not be.
fn is_trouble(text: &str) -> bool {
    let begins = [
        "Kernel panic - ",
        "WARNING: ",
        "BUG: ",
        "kernel BUG at ",
        "Oops: ",
    ];
    let contains = [
        "general protection fault",
        "BUG: soft lockup",
        "KASAN: ",
        "self-detected stall on CPU",
        "detected stalls on CPUs",
        "detected expedited stalls",
        "blocked for more than",
        "Out of memory: ",
    ];
    begins.iter().any(|what| text.starts_with(what))
        || contains.iter().any(|what| text.contains(what))
}

/// A line without the `[    1.234567]` that the kernel puts before it.
fn without_time(line: &str) -> &str {
    let stripped = line
        .strip_prefix('[')
        .and_then(|line| line.split_once("] "));
    match stripped {
        Some((time, text)) if time.trim().chars().all(|c| c.is_ascii_digit() || c == '.') => text,
        _ => line,
    }
}

/// Lines kept to be shown when a machine hangs.
const LAST: usize = 40;
/// Lines of one trace.
const LONGEST_TRACE: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_followed_to_the_end() {
        let mut story = Story::default();
        assert_eq!(story.phase, Phase::Booting);
        story.report("start flip");
        assert_eq!(story.phase, Phase::Running);
        assert_eq!(story.report("say test a ... ok"), Some("test a ... ok"));
        assert_eq!(story.report("data {\"lost\":"), None);
        story.report("data 0}");
        story.report("end flip exit:101 1500");
        assert_eq!(story.phase, Phase::Idle);
        story.report("start commit");
        story.report("end commit ok 20");
        story.report("done");
        story.ended();
        assert_eq!(story.phase, Phase::Over);
        assert!(story.troubles.is_empty());
        let [flip, commit] = story.jobs.as_slice() else {
            panic!("{:?}", story.jobs)
        };
        assert_eq!(flip.end.as_deref(), Some("exit:101"));
        assert_eq!(flip.data, "{\"lost\":\n0}\n");
        assert_eq!(flip.took, Duration::from_millis(1500));
        assert_eq!(commit.end.as_deref(), Some("ok"));
    }

    #[test]
    fn an_oops_and_the_panic_it_leads_to_are_one_trouble_with_the_trace() {
        let mut story = Story::default();
        for line in [
            "[    0.500000] Linux version 6.18.15",
            "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "[   12.345679] Oops: 0000 [#1] SMP",
            "[   12.345680] RIP: 0010:reuseport_select_sock+0x10/0x200",
            "[   12.345681] Kernel panic - not syncing: Fatal exception",
            "[   12.345682] ---[ end Kernel panic - not syncing: Fatal exception ]---",
            "[   13.000000] reboot: Power down",
        ] {
            story.kernel(line);
        }
        assert_eq!(story.troubles.len(), 1);
        let all: Vec<_> = story.troubles.concat();
        assert!(
            all.iter()
                .any(|line| line.contains("reuseport_select_sock")),
            "{all:?}"
        );
        assert!(
            all.iter().all(|line| !line.contains("Power down")),
            "{all:?}"
        );
        assert!(
            all.iter().all(|line| !line.contains("Linux version")),
            "{all:?}"
        );
    }

    #[test]
    fn every_kind_of_trouble_is_seen() {
        for line in [
            "Kernel panic - not syncing: Attempted to kill init!",
            "[    1.0] WARNING: CPU: 1 PID: 7 at net/core/sock_reuseport.c:12 f+0x1/0x2",
            "[    1.0] watchdog: BUG: soft lockup - CPU#1 stuck for 61s!",
            "[    1.0] rcu: INFO: rcu_sched self-detected stall on CPU",
            "[    1.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[    1.0] BUG: KASAN: use-after-free in inet_csk_listen_stop",
            "[    1.0] INFO: task synflip:42 blocked for more than 120 seconds.",
            "[    1.0] kernel BUG at net/ipv4/tcp.c:1!",
        ] {
            let mut story = Story::default();
            story.kernel(line);
            assert_eq!(story.troubles, [[line.to_owned()]]);
        }
        let mut story = Story::default();
        story.kernel("[    1.0] clocksource: this is no WARNING: of ours");
        assert!(story.troubles.is_empty());
    }

    #[test]
    fn a_machine_that_ends_too_early_or_hangs_shows_its_last_lines() {
        let mut story = Story::default();
        for number in 0..100 {
            story.kernel(&format!("line {number}"));
        }
        story.report("start flip");
        story.report("say still here");
        story.ended();
        let [trouble] = story.troubles.as_slice() else {
            panic!("{:?}", story.troubles)
        };
        assert_eq!(trouble.len(), 2 + LAST);
        assert_eq!(trouble.last().unwrap(), "say still here");
    }

    #[test]
    fn a_pid_1_that_cannot_go_on_is_trouble() {
        let mut story = Story::default();
        story.report("fatal load /modules/tun.ko: Exec format error");
        story.ended();
        assert_eq!(story.phase, Phase::Over);
        assert_eq!(
            story.troubles,
            [["PID 1: load /modules/tun.ko: Exec format error"]]
        );
    }
}
