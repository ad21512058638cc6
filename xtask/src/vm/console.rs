//! What a machine tells over its two serial ports, as far as it has come.
//!
//! The first port is the kernel's: most of it is kept only for the log, but a panic, an oops, a
//! stall or a warning is a failure, with its trace. The second is `synflip-init`'s, one event a
//! line, which [`Progress`] follows.

use std::collections::VecDeque;

use anyhow::Error;
use synflip_exchange::{Ended, Event, Progress, Ran, State};

/// The story so far.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) progress: Progress,
    /// What went wrong in the machine itself, each with its trace.
    pub(crate) troubles: Vec<Vec<String>>,
    /// The last lines of both ports.
    pub(crate) last: VecDeque<String>,
    /// The last trouble's trace goes on.
    tracing: bool,
}

/// What a person may want to see at once.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// A job prints a line.
    Said(&'a str),
    /// A job has ended.
    Ended(&'a Ran, &'a Ended),
}

impl Story {
    /// That of a machine which could not be started, or not be followed to its end.
    pub(crate) fn untold(error: &Error) -> Self {
        Self {
            troubles: vec![vec![format!("{error:#}")]],
            ..Self::default()
        }
    }

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

    /// Takes in a line of the second port, and passes on what a person may want to see of it.
    /// True if a job has started or ended, or the machine has come further.
    pub(crate) fn report(&mut self, line: &str, hear: &mut dyn FnMut(Heard<'_>)) -> bool {
        self.remember(line);
        // What QEMU itself or the firmware has to say is no event.
        let Some(event) = Event::from_line(line) else {
            return false;
        };
        if let Event::Said { line, .. } = &event {
            hear(Heard::Said(line));
        }
        let is_step = !matches!(event, Event::Said { .. });
        match self.progress.take(event) {
            Ok(Some((ran, ended))) => hear(Heard::Ended(ran, ended)),
            Ok(None) => {}
            Err(error) => self.troubles.push(vec![format!("PID 1: {error:#}")]),
        }
        if let State::Failed(why) = &self.progress.state {
            self.troubles.push(vec![format!("PID 1: {why}")]);
        }
        is_step
    }

    /// Records that the machine was killed for a reason, with what it said last.
    pub(crate) fn killed(&mut self, why: &str) {
        let mut trouble = vec![why.to_owned(), "it said last:".to_owned()];
        trouble.extend(self.last.iter().cloned());
        self.troubles.push(trouble);
    }

    /// Records that the machine has ended; it should not have before everything was run.
    pub(crate) fn ended(&mut self) {
        if !self.progress.is_over() {
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
    use std::time::Duration;

    use synflip_exchange::End;

    use super::*;

    fn tell(story: &mut Story, events: &[Event]) -> Vec<String> {
        let mut heard = Vec::new();
        for event in events {
            let line = event.to_line().unwrap();
            story.report(line.trim_end(), &mut |what| {
                heard.push(match what {
                    Heard::Said(line) => line.to_owned(),
                    Heard::Ended(ran, ended) => format!("{} {}", ran.name, ended.end),
                });
            });
        }
        heard
    }

    fn started() -> Event {
        Event::Started { job: "flip".into() }
    }

    #[test]
    fn jobs_are_followed_to_the_end() {
        let mut story = Story::default();
        let ended = Ended {
            end: End::Failed { code: 101 },
            took: Duration::from_millis(1500),
            skipped: None,
            output: None,
        };
        let said = Event::Said {
            job: "flip".into(),
            line: "hello".into(),
        };
        let job = "flip".to_owned();
        let events = [
            Event::Booted,
            started(),
            said,
            Event::Ended { job, ended },
            Event::Done,
        ];
        assert!(!story.report("SeaBIOS", &mut |_| panic!("an event")));
        let heard = tell(&mut story, &events);
        assert_eq!(heard, ["hello", "flip ended with code 101"]);
        story.ended();
        assert!(story.troubles.is_empty(), "{:?}", story.troubles);
    }

    #[test]
    fn what_pid_1_cannot_have_meant_is_trouble() {
        let mut story = Story::default();
        tell(&mut story, &[started()]);
        assert!(
            story.troubles[0][0].contains("cannot follow"),
            "{:?}",
            story.troubles
        );
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
        let line = "still here".to_owned();
        let job = "flip".to_owned();
        tell(
            &mut story,
            &[Event::Booted, started(), Event::Said { job, line }],
        );
        story.ended();
        let [trouble] = story.troubles.as_slice() else {
            panic!("{:?}", story.troubles)
        };
        assert_eq!(trouble.len(), 2 + LAST);
        assert!(trouble.last().unwrap().contains("still here"));
    }

    #[test]
    fn a_pid_1_that_cannot_go_on_is_trouble() {
        let mut story = Story::default();
        let why = "load /modules/tun.ko: Exec format error".to_owned();
        tell(&mut story, &[Event::Failed { why }]);
        story.ended();
        assert_eq!(
            story.troubles,
            [["PID 1: load /modules/tun.ko: Exec format error"]]
        );
    }
}
