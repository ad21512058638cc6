//! Which fault comes next? The seed says so, and nothing else.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use serde::Serialize;

use super::options::Settings;

/// What is done to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A flip to a new generation.
    Flip,
    /// A flip, and back again.
    Rollback,
    /// Two flips begin at one time.
    TwoFlips,
    /// SIGKILL of the command line in the middle of a flip.
    KillCommand,
    /// SIGKILL of the old generation while it drains.
    KillDraining,
    /// SIGKILL of the working generation while another one is ready.
    KillWorking,
    /// SIGKILL of the only generation; another one comes later.
    KillOnly,
    /// SIGKILL of one of two processes of the working generation.
    KillProcess,
    /// SIGSTOP of a process of the working generation, and SIGCONT.
    StopProcess,
    /// SIGKILL of a server that has registered and is not ready.
    KillUnready,
    /// SIGKILL of the agent.
    KillAgent,
    /// SIGKILL of the agent in the middle of a flip.
    KillAgentInFlip,
    /// Peers of the control socket that do not speak its protocol.
    Garbage,
}

impl Kind {
    pub(super) const ALL: [Self; 13] = [
        Self::Flip,
        Self::Rollback,
        Self::TwoFlips,
        Self::KillCommand,
        Self::KillDraining,
        Self::KillWorking,
        Self::KillOnly,
        Self::KillProcess,
        Self::StopProcess,
        Self::KillUnready,
        Self::KillAgent,
        Self::KillAgentInFlip,
        Self::Garbage,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rollback => "flip and roll back",
            Self::TwoFlips => "two flips at once",
            Self::KillCommand => "kill a flip's command",
            Self::KillDraining => "kill the draining one",
            Self::KillWorking => "kill the working one",
            Self::KillOnly => "kill the only one",
            Self::KillProcess => "kill one process of two",
            Self::StopProcess => "stop and go on",
            Self::KillUnready => "kill an unready one",
            Self::KillAgent => "kill the agent",
            Self::KillAgentInFlip => "kill the agent in a flip",
            Self::Garbage => "garbage",
        }
    }

    const fn kills_the_agent(self) -> bool {
        matches!(self, Self::KillAgent | Self::KillAgentInFlip)
    }
}

/// A fault to inject.
#[derive(Debug)]
pub(super) struct Fault {
    /// Its number, from 1.
    pub(super) number: usize,
    pub(super) kind: Kind,
    /// The time before it in which nothing is done.
    pub(super) pause: Duration,
    /// For its own parameters.
    pub(super) rng: SmallRng,
}

/// The faults of a seed, without end.
#[derive(Debug)]
pub(super) struct Plan {
    rng: SmallRng,
    /// Each kind comes once before any comes again.
    bag: Vec<Kind>,
    number: usize,
    longest_pause: Duration,
}

impl Plan {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(settings.delay.seed),
            bag: Vec::new(),
            number: 0,
            longest_pause: settings.longest_pause,
        }
    }

    /// The next fault, or the next that leaves the agent alone.
    pub(super) fn next(&mut self, kill_the_agent: bool) -> Fault {
        loop {
            let fault = self.draw();
            if kill_the_agent || !fault.kind.kills_the_agent() {
                self.number += 1;
                let number = self.number;
                return Fault { number, ..fault };
            }
        }
    }

    fn draw(&mut self) -> Fault {
        if self.bag.is_empty() {
            self.bag.extend(Kind::ALL);
            self.bag.shuffle(&mut self.rng);
        }
        Fault {
            number: 0,
            kind: self.bag.pop().unwrap_or(Kind::Flip),
            pause: self.longest_pause.mul_f64(self.rng.random()),
            rng: SmallRng::from_rng(&mut self.rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::options::tests::settings;

    fn faults(seed: u64, kill_the_agent: bool) -> Vec<(usize, Kind, Duration, u64)> {
        let mut plan = Plan::new(&settings(&["--seed", &seed.to_string()]).unwrap());
        let fault = |_| {
            let mut fault = plan.next(kill_the_agent);
            let parameter = fault.rng.random();
            (fault.number, fault.kind, fault.pause, parameter)
        };
        (0..40).map(fault).collect()
    }

    #[test]
    fn a_seed_means_one_plan() {
        assert_eq!(faults(7, true), faults(7, true));
        assert_ne!(faults(7, true), faults(8, true));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let faults = faults(1, true);
        let mut kinds: Vec<Kind> = faults[..13].iter().map(|fault| fault.1).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, Kind::ALL);
        assert!(faults.iter().map(|fault| fault.0).eq(1..=40));
    }

    #[test]
    fn the_agent_can_be_left_alone() {
        assert!(
            faults(1, false)
                .iter()
                .all(|fault| !fault.1.kills_the_agent())
        );
    }
}
