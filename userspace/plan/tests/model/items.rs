//! What is searched: each item by itself, and each pair of them.

use crate::{
    budget::Budget,
    scope::{ProcSpec, Scope, SockSpec},
};

/// Something that there may be, or that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    /// Each generation listens at two endpoints.
    TwoEndpoints,
    /// The newest generation has no listener at the second of two endpoints, and a server dies.
    MissingEndpoint,
    /// Two processes a generation, each with listeners of its own, one of which dies.
    TwoProcesses,
    /// Three generations, and one more flip.
    ThreeGenerations,
    /// Two processes a generation that share its listeners, one of which dies.
    Shared,
    /// Generations are kept, rolled back to and retired; the newest listener is the first of its
    /// hash bucket.
    Kept,
    /// Servers die and stop with nobody to come after them.
    Hold,
    /// The agent dies, between any two effects.
    AgentDies,
    /// The same, and systemd keeps its descriptors.
    AgentDiesWithStore,
    /// Somebody takes the program away, or listens without being registered.
    Stranger,
    /// The kernel refuses a listener, the program or a table.
    Refusal,
    /// The first generation knows nothing of this: it was adopted.
    Adopted,
    /// Processes that live stop accepting from a listener, and may go on some time.
    Hung,
}

pub(crate) const ALL: [Item; 13] = [
    Item::TwoEndpoints,
    Item::MissingEndpoint,
    Item::TwoProcesses,
    Item::ThreeGenerations,
    Item::Shared,
    Item::Kept,
    Item::Hold,
    Item::AgentDies,
    Item::AgentDiesWithStore,
    Item::Stranger,
    Item::Refusal,
    Item::Adopted,
    Item::Hung,
];

/// Each item, and each pair of two.
pub(crate) fn searches() -> Vec<Vec<Item>> {
    let mut searches: Vec<Vec<Item>> = ALL.iter().map(|item| vec![*item]).collect();
    for (at, item) in ALL.iter().enumerate() {
        let later = ALL[at + 1..].iter();
        searches.extend(later.map(|other| vec![*item, *other]));
    }
    searches
}

/// A service with these items, and as little else as there can be.
pub(crate) fn scope(items: &[Item]) -> Scope {
    let has = |item| items.contains(&item);
    let missing = has(Item::MissingEndpoint);
    let endpoints = if has(Item::TwoEndpoints) || missing {
        2
    } else {
        1
    };
    let generations = if has(Item::ThreeGenerations) { 3 } else { 2 };
    let (mut socks, mut procs) = (Vec::new(), Vec::new());
    for generation in 0..generations {
        // With something else beside it, one generation of several processes is enough.
        let is_several = items.len() != 2 || generation == 0;
        let is_two = has(Item::TwoProcesses) || has(Item::Hung);
        let owners = if is_two && is_several { 2 } else { 1 };
        for owner in 0..owners {
            let newest = generation + 1 == generations;
            let its = if newest && missing { 1 } else { endpoints };
            let first = socks.len();
            socks.extend((0..its).map(|endpoint| SockSpec { endpoint }));
            let is_shared = has(Item::Shared) && is_several && (owner == 0 || items.len() > 2);
            for _sharer in 0..if is_shared { 2 } else { 1 } {
                procs.push(ProcSpec {
                    generation,
                    socks: (first..socks.len()).collect(),
                    talks: generation > 0 || !has(Item::Adopted),
                });
            }
        }
    }
    let one_if = |is: bool| u8::from(is);
    let several = has(Item::TwoProcesses) || has(Item::Shared);
    let budget = Budget {
        connections: 1,
        flips: 1 + one_if(has(Item::ThreeGenerations) || has(Item::Kept)),
        retires: one_if(has(Item::Kept)),
        kills: one_if(several || missing || has(Item::Hold)),
        stops: one_if(has(Item::Hold)),
        agent_deaths: one_if(has(Item::AgentDies) || has(Item::AgentDiesWithStore)),
        refusals: one_if(has(Item::Refusal)),
        thefts: one_if(has(Item::Stranger)),
        strangers: one_if(has(Item::Stranger)),
        hangs: one_if(has(Item::Hung)),
    };
    Scope {
        socks,
        procs,
        budget,
        newest_first: has(Item::Kept),
        store: has(Item::AgentDiesWithStore),
        flights: items.len() == 1 && !several,
        keep: has(Item::Kept),
        force: has(Item::Kept),
        hold: 300,
        migrates: false,
        mistake: None,
    }
}

/// How many processes are there before anything is searched: all but the last.
pub(crate) fn started(scope: &Scope) -> usize {
    scope.procs.len() - 1
}
