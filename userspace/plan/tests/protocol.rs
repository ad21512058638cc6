//! The whole protocol, every interleaving of it: flips, drains, crashes and recoveries of two
//! generations with a connection or two in flight.
//!
//! What decides is the real [`synflip_plan::Service`]; around it stands a small kernel, two
//! servers and an agent that can be killed between any two steps.

#[path = "protocol/properties.rs"]
mod properties;
#[path = "protocol/state.rs"]
mod state;
#[path = "protocol/steps.rs"]
mod steps;

/// A mistake to plant, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Takes an empty accept queue for an empty listener.
    ForgetsHalfOpen,
    /// Says that a flip has committed before the table is published.
    CommitsEarly,
    /// Closes the listeners of a dead server with what is on them.
    ClosesFull,
    /// Notes who has been flipped away from only when the flip has committed.
    NotesLate,
    /// Takes every generation that is older than the working one for one that drains.
    GoesByAge,
    /// Accepts what is queued on a dead server's listener itself, to hand it over.
    AcceptsItself,
}

/// Who holds listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The agent alone: what is on them dies with server and agent.
    AgentAlone,
    /// systemd keeps what the agent holds.
    WithStore,
}

/// The protocol, to be explored.
pub(crate) struct Protocol {
    pub(crate) bug: Bug,
    pub(crate) setting: Setting,
}

#[cfg(test)]
mod tests {
    use stateright::{Checker as _, HasDiscoveries, Model as _};

    use super::*;

    #[test]
    fn the_protocol_keeps_its_promises() {
        for setting in [Setting::AgentAlone, Setting::WithStore] {
            let protocol = Protocol {
                bug: Bug::None,
                setting,
            };
            let checker = protocol.checker().threads(2).spawn_bfs().join();
            println!("{setting:?}: {} states", checker.unique_state_count());
            checker.assert_properties();
        }
    }

    #[test]
    fn a_drain_that_forgets_the_half_open_is_found() {
        finds(Bug::ForgetsHalfOpen, "drained means empty");
    }

    #[test]
    fn a_commit_before_the_publication_is_found() {
        finds(Bug::CommitsEarly, "the agent knows what the kernel follows");
    }

    #[test]
    fn closing_what_is_not_empty_is_found() {
        finds(Bug::ClosesFull, "nothing is lost");
    }

    #[test]
    fn a_departure_that_is_noted_too_late_is_found() {
        finds(Bug::NotesLate, "a drain goes on");
    }

    #[test]
    fn telling_those_to_close_who_have_not_worked_is_found() {
        finds(Bug::GoesByAge, "only who has worked is told to close");
    }

    #[test]
    fn an_agent_that_accepts_connections_is_found() {
        finds(Bug::AcceptsItself, "nothing is lost");
    }

    fn finds(bug: Bug, property: &'static str) {
        let protocol = Protocol {
            bug,
            setting: Setting::WithStore,
        };
        let found = HasDiscoveries::AnyOf([property].into());
        let checker = protocol.checker().threads(2).finish_when(found);
        let checker = checker.spawn_bfs().join();
        let path = checker.assert_any_discovery(property);
        println!(
            "{bug:?} breaks \"{property}\" in {} steps",
            path.into_actions().len()
        );
    }
}
