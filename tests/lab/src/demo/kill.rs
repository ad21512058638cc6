//! Which generation is killed when, and what died with it?

use std::time::Duration;

use serde::Serialize;
use synflip_wire::Phase;

use synflip_bed::{
    kills::{self, Death},
    load::Report,
};

/// A generation that is killed while it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Victim {
    /// The old one, right after the commit: it is draining.
    Old,
    /// The working one, without a flip: the next one is ready and has to take over.
    Working,
}

/// A generation that was killed.
#[derive(Clone, Debug)]
pub(super) struct Kill {
    pub(super) generation: u32,
    pub(super) victim: Victim,
    /// What it was doing.
    pub(super) phase: Phase,
    /// Since the beginning of the load.
    pub(super) at: Duration,
    pub(super) death: Death,
    /// Of what it had accepted and not answered: what clients lost with it.
    pub(super) died_in_service: u64,
}

impl Victim {
    /// Who is killed when a generation is replaced: the working one every third time.
    pub(super) const fn of(replaced: u32) -> Self {
        if replaced.is_multiple_of(3) {
            Self::Working
        } else {
            Self::Old
        }
    }
}

impl Kill {
    /// Connections that it had accepted and not answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.death.account.unanswered.len() as u64
    }

    /// What it had accepted and not answered, for people.
    pub(super) fn account(&self) -> String {
        let Death { account, .. } = &self.death;
        let mut text = format!("{} accepted and not answered", account.unanswered.len());
        if account.accepting {
            text += ", one more perhaps";
        }
        text
    }
}

/// Takes what died in service out of what was lost.
pub(super) fn account(kills: &mut [Kill], report: &mut Report) {
    let deaths: Vec<Death> = kills.iter().map(|kill| kill.death.clone()).collect();
    let died = kills::account(&deaths, report);
    for (kill, died) in kills.iter_mut().zip(died) {
        kill.died_in_service = died;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn every_third_time_it_is_the_working_one() {
        let victims = [1, 2, 3, 4, 5, 6].map(Victim::of);
        use Victim::{Old, Working};
        assert_eq!(victims, [Old, Old, Working, Old, Old, Working]);
    }
}
