//! Which endpoints have listeners in their reuseport groups that are nobody's.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use synflip_types::EndpointId;

/// How long they have to be there before it is said: whoever registers has listened for a moment.
const LONG: Duration = Duration::from_millis(450);

/// Those that have been seen.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<EndpointId, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    since: Instant,
    said: bool,
}

impl Strangers {
    /// Takes notice of how many there are at each endpoint that was looked at; returns where that
    /// has changed, and whether there are any.
    pub(super) fn notice(
        &mut self,
        now: Instant,
        all: &BTreeMap<EndpointId, usize>,
    ) -> Vec<(EndpointId, bool)> {
        let mut news = Vec::new();
        for (endpoint, number) in all {
            if *number == 0 {
                if self.0.remove(endpoint).is_some_and(|seen| seen.said) {
                    news.push((*endpoint, false));
                }
                continue;
            }
            let first = Seen {
                since: now,
                said: false,
            };
            let seen = self.0.entry(*endpoint).or_insert(first);
            if !seen.said && now.duration_since(seen.since) >= LONG {
                seen.said = true;
                news.push((*endpoint, true));
            }
        }
        // What cannot be looked at any more is nobody's business.
        self.0.retain(|endpoint, _| all.contains_key(endpoint));
        news
    }

    /// Whether some have been seen, and are to be seen once more before that is said.
    pub(super) fn are_suspected(&self) -> bool {
        self.0.values().any(|seen| !seen.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_said_when_they_have_been_there_for_a_while_and_when_they_have_gone() {
        let mut strangers = Strangers::default();
        let mut now = Instant::now();
        let mut after = |ms, number| {
            now += Duration::from_millis(ms);
            let all = [(EndpointId(3), number)].into();
            let news = strangers.notice(now, &all);
            let news: Vec<bool> = news.into_iter().map(|(_, present)| present).collect();
            (news, strangers.are_suspected())
        };
        assert_eq!(after(0, 2), (vec![], true));
        // They were on their way to register.
        assert_eq!(after(100, 0), (vec![], false));
        assert_eq!(after(1000, 1), (vec![], true));
        assert_eq!(after(500, 1), (vec![true], false));
        assert_eq!(after(1000, 2), (vec![], false));
        assert_eq!(after(1000, 0), (vec![false], false));
    }
}
