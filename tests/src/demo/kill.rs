//! Which generation is killed when, and what died with it?

use std::time::Duration;

use serde::Serialize;
use synflip_wire::Phase;

use crate::{
    kills::{Death, died_in_service},
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
    let died = died_in_service(&deaths, &report.losses);
    let outcomes: Vec<_> = report.losses.iter().map(|loss| loss.outcome).collect();
    for (outcome, died) in outcomes.into_iter().zip(died) {
        if let Some(kill) = died.and_then(|died| kills.get_mut(died)) {
            kill.died_in_service += 1;
            report.set_apart(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Account, Unanswered},
        load::{Loss, Outcome},
    };

    #[test]
    fn what_died_in_service_is_not_lost() {
        let client = ([10, 0, 0, 1], 5).into();
        let lost = |outcome, client| Loss {
            client,
            outcome,
            opened_us: 0,
            ended_us: 20,
        };
        let mut report = Report {
            lost: 3,
            reset: 1,
            timeout: 2,
            stalled: 1,
            connect_timeout: 1,
            losses: vec![
                lost(Outcome::ConnectTimeout, None),
                lost(Outcome::Reset, None),
                lost(Outcome::Stalled, Some(client)),
            ],
            ..Report::default()
        };
        let unanswered = vec![Unanswered {
            client,
            accepted_us: 5,
        }];
        let account_of = |accepting| Account {
            unanswered: unanswered.clone(),
            accepting,
            unnoted: 0,
        };
        let mut kills = [true, false].map(|accepting| Kill {
            generation: 1,
            victim: Victim::Old,
            phase: Phase::Draining,
            at: Duration::ZERO,
            death: Death {
                begun_us: 10,
                ended_us: 11,
                account: account_of(accepting),
            },
            died_in_service: 0,
        });
        account(&mut kills, &mut report);
        assert_eq!(kills.map(|kill| kill.died_in_service), [2, 0]);
        let Report {
            lost,
            reset,
            timeout,
            stalled,
            connect_timeout,
            ..
        } = report;
        assert_eq!((lost, reset, timeout), (1, 0, 1));
        assert_eq!((stalled, connect_timeout), (0, 1));
    }

    #[test]
    fn every_third_time_it_is_the_working_one() {
        let victims = [1, 2, 3, 4, 5, 6].map(Victim::of);
        use Victim::{Old, Working};
        assert_eq!(victims, [Old, Old, Working, Old, Old, Working]);
    }
}
