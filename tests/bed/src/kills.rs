//! Which lost connections died with a server that was killed, and which were lost beside it?
//!
//! Only a connection that the server had accepted and not answered dies with it, and that it did
//! is shown for each by itself: its [`Ledger`](crate::ledger::Ledger) has it. A client uses an
//! address for one connection at a time, so the address and the moment it was accepted name one.

use std::mem;

use crate::{
    ledger::{Account, Unanswered},
    load::{Loss, Outcome, Report},
};

/// The end of a process that was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Before the signal was sent: microseconds of CLOCK_MONOTONIC.
    pub begun_us: u64,
    /// When the process had ended.
    pub ended_us: u64,
    /// What its ledger says.
    pub account: Account,
}

/// Takes what died in service out of what was lost; returns how many that are for each death.
pub fn account(deaths: &[Death], report: &mut Report) -> Vec<u64> {
    let mut counts = vec![0; deaths.len()];
    let died_of = died_in_service(deaths, &report.losses);
    for (loss, died) in mem::take(&mut report.losses).into_iter().zip(died_of) {
        match died.and_then(|index| counts.get_mut(index)) {
            Some(count) => {
                *count += 1;
                report.set_apart(loss.outcome);
            }
            None => report.losses.push(loss),
        }
    }
    counts
}

/// For each lost connection the index of the death that it died of; none if it was lost beside
/// them.
fn died_in_service(deaths: &[Death], losses: &[Loss]) -> Vec<Option<usize>> {
    let mut died_of: Vec<Option<usize>> = losses
        .iter()
        .map(|loss| deaths.iter().position(|death| death.has(loss)))
        .collect();
    // What a server had accepted the moment before, too late for a note: one connection at most.
    for (index, death) in deaths
        .iter()
        .enumerate()
        .filter(|(_, d)| d.account.accepting)
    {
        let mut rest = losses
            .iter()
            .zip(&mut died_of)
            .filter(|(_, died)| died.is_none());
        if let Some((_, died)) = rest.find(|(loss, _)| death.may_have_had(loss)) {
            *died = Some(index);
        }
    }
    died_of
}

impl Death {
    /// Whether the ledger has this connection, and it was open when the server died.
    fn has(&self, loss: &Loss) -> bool {
        let is_it = |entry: &Unanswered| {
            Some(entry.client) == loss.client
                && (loss.opened_us..=loss.ended_us).contains(&entry.accepted_us)
        };
        loss.ended_us >= self.begun_us && self.account.unanswered.iter().any(is_it)
    }

    /// Whether the server can have accepted it just when it died.
    fn may_have_had(&self, loss: &Loss) -> bool {
        // Accepted, it had a handshake.
        matches!(loss.outcome, Outcome::Reset | Outcome::Stalled)
            && loss.opened_us < self.ended_us
            && loss.ended_us >= self.begun_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: u64 = 1000;
    const ENDED: u64 = 1010;

    fn death(unanswered: &[(u16, u64)], accepting: bool) -> Death {
        let entry = |(port, accepted_us): &(u16, u64)| Unanswered {
            client: ([10, 0, 0, 1], *port).into(),
            accepted_us: *accepted_us,
        };
        Death {
            begun_us: BEGUN,
            ended_us: ENDED,
            account: Account {
                unanswered: unanswered.iter().map(entry).collect(),
                accepting,
                unnoted: 0,
            },
        }
    }

    fn loss(port: u16, opened_us: u64, ended_us: u64) -> Loss {
        Loss {
            client: Some(([10, 0, 0, 1], port).into()),
            outcome: Outcome::Reset,
            opened_us,
            ended_us,
        }
    }

    #[test]
    fn what_the_ledger_has_died_in_service() {
        let deaths = [death(&[], false), death(&[(5, 950), (6, 999)], false)];
        let losses = [loss(5, 900, 1100), loss(6, 990, 1000), loss(7, 900, 1100)];
        assert_eq!(died_in_service(&deaths, &losses), [Some(1), Some(1), None]);
    }

    #[test]
    fn an_address_alone_proves_nothing() {
        let deaths = [death(&[(5, 950)], false)];
        let before = loss(5, 800, 940);
        let given_up_before_the_kill = loss(5, 900, 999);
        let after = loss(5, 1020, 1100);
        let mut without = loss(5, 900, 1100);
        without.client = None;
        for loss in [before, given_up_before_the_kill, after, without] {
            assert_eq!(died_in_service(&deaths, &[loss]), [None], "{loss:?}");
        }
        // All that had the address, in a row: only the one that was open can be meant.
        let row = [before, loss(5, 945, 1100), loss(5, 1101, 1200)];
        assert_eq!(died_in_service(&deaths, &row), [None, Some(0), None]);
    }

    #[test]
    fn an_attempt_to_accept_explains_one_connection() {
        let losses = [loss(7, 900, 1100), loss(8, 900, 1100)];
        assert_eq!(
            died_in_service(&[death(&[], true)], &losses),
            [Some(0), None]
        );
        let two = [death(&[], true), death(&[(7, 950)], true)];
        assert_eq!(died_in_service(&two, &losses), [Some(1), Some(0)]);
        assert_eq!(died_in_service(&[death(&[], false)], &losses), [None, None]);
    }

    #[test]
    fn an_attempt_to_accept_explains_only_what_was_open_and_had_a_handshake() {
        let deaths = [death(&[], true)];
        for outcome in [Outcome::Refused, Outcome::ConnectTimeout] {
            let loss = Loss {
                outcome,
                ..loss(7, 900, 1100)
            };
            assert_eq!(died_in_service(&deaths, &[loss]), [None], "{loss:?}");
        }
        for loss in [loss(7, 1010, 1100), loss(7, 900, 999)] {
            assert_eq!(died_in_service(&deaths, &[loss]), [None], "{loss:?}");
        }
    }

    #[test]
    fn what_died_in_service_is_not_lost() {
        let with = |loss: Loss, outcome| Loss { outcome, ..loss };
        let never = with(loss(9, 900, 1100), Outcome::ConnectTimeout);
        let stalled = with(loss(5, 900, 1100), Outcome::Stalled);
        let mut report = Report {
            lost: 3,
            reset: 1,
            timeout: 2,
            stalled: 1,
            connect_timeout: 1,
            losses: vec![never, loss(6, 900, 1100), stalled],
            ..Report::default()
        };
        let deaths = [death(&[(5, 950)], true), death(&[], false)];
        assert_eq!(account(&deaths, &mut report), [2, 0]);
        assert_eq!((report.lost, report.reset, report.timeout), (1, 0, 1));
        assert_eq!((report.stalled, report.connect_timeout), (0, 1));
        assert_eq!(report.losses, [never]);
    }
}
