//! What must hold in every state, and what must be possible.

use stateright::Property;
use synflip_plan::{Phase, Table};

use crate::{
    Protocol, Setting,
    state::{FLIPS, GENERATIONS, SERVER_KILLS, SYNS, State},
};

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("nothing is lost", |_, state: &State| state.lost == 0),
        Property::always(
            "with a store, not even to the deaths of server and agent",
            |protocol: &Protocol, state: &State| {
                protocol.setting == Setting::AgentAlone || state.excused == 0
            },
        ),
        Property::always(
            "a request is on a listener that is open",
            |_, state: &State| {
                state
                    .listeners
                    .iter()
                    .all(|listener| listener.pending() == 0 || listener.is_open())
            },
        ),
        Property::always("who is not ready gets nothing", |_, state: &State| {
            state
                .listeners
                .iter()
                .all(|listener| listener.pending() == 0 || listener.ready)
        }),
        Property::always("drained means empty", |_, state: &State| {
            (0..GENERATIONS).all(|generation| {
                let drained = matches!(
                    state.phase(generation),
                    Some(Phase::Drained | Phase::Standby)
                );
                !drained || state.listeners[generation].pending() == 0
            })
        }),
        Property::always("at most one generation works", |_, state: &State| {
            let working = |generation: &usize| state.phase(*generation) == Some(Phase::Working);
            (0..GENERATIONS).filter(working).count() <= 1
        }),
        Property::always(
            "the agent knows what the kernel follows",
            |_, state: &State| {
                let (Some(agent), None) = (&state.agent, &state.publishing) else {
                    return true;
                };
                let table = state.table.as_ref().filter(|table| !table.is_empty());
                agent.working() == table.map(Table::generation)
            },
        ),
        Property::always(
            "whoever is connected and not told to close has its place",
            |_, s: &State| {
                (0..GENERATIONS).all(|g| !s.connected[g] || s.told[g] || s.phase(g).is_some())
            },
        ),
        Property::always(
            "only who has worked is told to close",
            |_, state: &State| (0..GENERATIONS).all(|g| !state.told[g] || state.worked[g]),
        ),
        Property::always("a drain goes on", |_, state: &State| {
            state.publishing.is_some()
                || (0..GENERATIONS).all(|generation| {
                    let phase = state.phase(generation);
                    !state.left[generation]
                        || matches!(phase, None | Some(Phase::Draining | Phase::Drained))
                })
        }),
        Property::sometimes(
            "everything is served across a flip and both kills",
            |_, state: &State| {
                let killed = !state.may_kill_agent && state.server_kills < SERVER_KILLS;
                killed && state.flips < FLIPS && state.served == SYNS && state.agent.is_some()
            },
        ),
        Property::sometimes("a queue is lent to a successor", |_, state: &State| {
            let lent = state.listeners.iter().any(|listener| listener.lent);
            lent && state.agent.is_none()
        }),
    ]
}
