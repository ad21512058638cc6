//! The whole protocol, every interleaving of it: flips, drains, crashes and recoveries of two
//! generations with a connection or two in flight.
//!
//! What decides is the real [`Service`]; around it stands a small kernel, two servers and an agent
//! that can be killed between any two steps.

use stateright::{Checker as _, Model, Property};
use synflip_plan::{
    Change, GenerationId, Left, Phase, ProcessId, Service, Slot, Table, Target, close_order,
};

/// Generations, each with one listener.
const GENERATIONS: usize = 2;
const SYNS: u8 = 2;
const FLIPS: u8 = 2;

/// A mistake to plant, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Takes an empty accept queue for an empty listener.
    ForgetsHalfOpen,
    /// Says that a flip has committed before the table is published.
    CommitsEarly,
    /// Closes the listeners of a dead server with what is on them.
    ClosesFull,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Listener {
    exists: bool,
    half_open: u8,
    queued: u8,
    /// Whether the server, and whether the agent, holds it open.
    server: bool,
    agent: bool,
    slot: Option<Slot>,
    /// What the agent notes beside the slot.
    generation: Option<GenerationId>,
    /// Whether its server has said that it is ready.
    ready: bool,
}

impl Listener {
    fn is_open(&self) -> bool {
        self.exists && (self.server || self.agent)
    }

    fn pending(&self) -> u8 {
        self.half_open + self.queued
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    listeners: [Listener; GENERATIONS],
    /// What the kernel follows.
    table: Option<Table>,
    /// The living agent's mind.
    agent: Option<Service>,
    /// A change that it is publishing, and whether the kernel has it already.
    publishing: Option<(Change, bool)>,
    /// Whether each server has been told to close.
    told: [bool; GENERATIONS],
    /// Each server's connection to the agent.
    connected: [bool; GENERATIONS],
    syns: u8,
    flips: u8,
    may_kill_server: bool,
    may_kill_agent: bool,
    /// Connections that died because server and agent were dead at once.
    excused: u8,
    /// Connections that died otherwise.
    lost: u8,
    served: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Start(usize),
    Ready(usize),
    Syn,
    Ack(usize),
    Accept(usize),
    Flip(usize),
    Publish,
    Commit,
    Drained(usize),
    ServerCloses(usize),
    Rescue(usize),
    AgentCloses(usize),
    Refresh,
    KillServer(usize),
    KillAgent,
    RestartAgent,
    Reconnect(usize),
}

struct Protocol(Bug);

fn name(generation: usize) -> String {
    format!("gen{}", generation + 1)
}

fn process(generation: usize) -> ProcessId {
    ProcessId(1 + generation as u64)
}

fn address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 80).into()
}

fn cookie(generation: usize) -> u64 {
    100 + generation as u64
}

impl State {
    fn phase(&self, generation: usize) -> Option<Phase> {
        let name = name(generation);
        let generations = self.agent.as_ref()?.generations();
        let found = generations
            .iter()
            .find(|generation| generation.name == name);
        found.map(|generation| generation.phase)
    }

    /// The generation that the kernel gives new connections to.
    fn steered_to(&self) -> Option<usize> {
        let slot = self.table.as_ref()?.slots(0).first().copied()?;
        self.listeners
            .iter()
            .position(|l| l.slot == Some(slot) && l.is_open())
    }

    /// A listener that nobody holds any more takes what is on it along.
    fn reap(&mut self, generation: usize, excused: bool) {
        let listener = &mut self.listeners[generation];
        if listener.exists && !listener.is_open() {
            let died = listener.pending();
            *listener = Listener {
                exists: true,
                ..Listener::default()
            };
            if excused {
                self.excused += died;
            } else {
                self.lost += died;
            }
        }
    }

    fn is_unneeded(&self, generation: usize) -> bool {
        let slot = self.listeners[generation].slot;
        self.publishing.is_none()
            && self.agent.as_ref().is_some_and(|agent| {
                agent
                    .unneeded()
                    .iter()
                    .any(|member| Some(member.slot) == slot)
            })
    }

    fn register(&mut self, generation: usize) {
        let Some(agent) = &mut self.agent else { return };
        let joined = agent.join(
            process(generation),
            Some(&name(generation)),
            &[(address(), cookie(generation))],
        );
        if let Ok(joined) = joined {
            self.connected[generation] = true;
            let listener = &mut self.listeners[generation];
            listener.agent = true;
            listener.slot = joined.slots.first().copied();
            listener.generation = Some(joined.generation);
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            listeners: Default::default(),
            table: None,
            agent: Some(Service::new()),
            publishing: None,
            told: [false; GENERATIONS],
            connected: [false; GENERATIONS],
            syns: SYNS,
            flips: FLIPS,
            may_kill_server: true,
            may_kill_agent: true,
            excused: 0,
            lost: 0,
            served: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let idle = state.agent.is_some() && state.publishing.is_none();
        // The first to start is the first to work.
        let next = state.listeners.iter().position(|listener| !listener.exists);
        actions.extend(next.filter(|_| idle).map(Action::Start));
        for generation in 0..GENERATIONS {
            let listener = &state.listeners[generation];
            let phase = state.phase(generation);
            if listener.half_open > 0 && listener.is_open() {
                actions.push(Action::Ack(generation));
            }
            if listener.server && listener.queued > 0 {
                actions.push(Action::Accept(generation));
            }
            if idle && state.connected[generation] && phase == Some(Phase::Registered) {
                actions.push(Action::Ready(generation));
            }
            if idle && state.flips > 0 {
                actions.push(Action::Flip(generation));
            }
            if idle && phase == Some(Phase::Draining) {
                actions.push(Action::Drained(generation));
            }
            if state.told[generation] && listener.server {
                actions.push(Action::ServerCloses(generation));
            }
            if state.is_unneeded(generation) {
                actions.push(Action::Rescue(generation));
                actions.push(Action::AgentCloses(generation));
            }
            if state.may_kill_server && listener.server {
                actions.push(Action::KillServer(generation));
            }
            if state.agent.is_some() && listener.server && !state.connected[generation] {
                actions.push(Action::Reconnect(generation));
            }
        }
        if state.syns > 0 && state.steered_to().is_some() {
            actions.push(Action::Syn);
        }
        match &state.publishing {
            Some((_, false)) => {
                actions.push(Action::Publish);
                if self.0 == Bug::CommitsEarly {
                    actions.push(Action::Commit);
                }
            }
            Some((_, true)) => actions.push(Action::Commit),
            None if idle => actions.push(Action::Refresh),
            None => {}
        }
        if state.may_kill_agent && state.agent.is_some() {
            actions.push(Action::KillAgent);
        }
        if state.agent.is_none() {
            actions.push(Action::RestartAgent);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Start(generation) => {
                state.listeners[generation] = Listener {
                    exists: true,
                    server: true,
                    ..Listener::default()
                };
                state.register(generation);
            }
            Action::Reconnect(generation) => {
                state.register(generation);
                // It says again that it is ready, and is told again what it may have missed.
                let ready = state.listeners[generation].ready;
                if let Some(agent) = state.agent.as_mut().filter(|_| ready) {
                    agent.ready(process(generation));
                }
                state.told[generation] |= state.phase(generation) == Some(Phase::Drained);
            }
            Action::Ready(generation) => {
                state.listeners[generation].ready = true;
                state.agent.as_mut()?.ready(process(generation));
            }
            Action::Syn => {
                let to = state.steered_to()?;
                state.syns -= 1;
                state.listeners[to].half_open += 1;
            }
            Action::Ack(generation) => {
                state.listeners[generation].half_open -= 1;
                state.listeners[generation].queued += 1;
            }
            Action::Accept(generation) => {
                state.listeners[generation].queued -= 1;
                state.served += 1;
            }
            Action::Flip(generation) => {
                let name = name(generation);
                let change = state
                    .agent
                    .as_mut()?
                    .begin_flip(&Target::Named(name), None)
                    .ok()?;
                state.flips -= 1;
                state.publishing = Some((change, false));
            }
            Action::Refresh => {
                let agent = state.agent.as_mut()?;
                let working = agent.working().and_then(|id| agent.generation(id));
                let unserved = working.is_none_or(|generation| !generation.is_served());
                let successor = agent.successor().map(|generation| generation.name.clone());
                let change = match successor.filter(|_| unserved) {
                    Some(name) => agent.begin_flip(&Target::Named(name), None).ok(),
                    None => agent.begin_refresh(),
                };
                state.publishing = Some((change?, false));
            }
            Action::Publish => {
                let (change, published) = state.publishing.as_mut()?;
                (*published, state.table) = (true, Some(change.table.clone()));
            }
            Action::Commit => {
                let (change, published) = state.publishing.take()?;
                state.agent.as_mut()?.commit();
                if !published {
                    // The kernel gets it a little later: modelled as never, which is no worse.
                    drop(change);
                }
            }
            Action::Drained(generation) => {
                let listener = &state.listeners[generation];
                let left = match self.0 {
                    Bug::ForgetsHalfOpen => listener.queued,
                    _ => listener.pending(),
                };
                if left > 0 {
                    return None;
                }
                let id = listener.generation?;
                state.agent.as_mut()?.drained(id, false);
                state.told[generation] |= state.connected[generation];
                state.agent.as_mut()?.forget(id);
            }
            Action::ServerCloses(generation) => {
                state.listeners[generation].server = false;
                state.disconnect(generation);
                state.reap(generation, false);
            }
            Action::Rescue(generation) => {
                // Accepted by the agent and handed to the working generation, if that serves.
                let working = state.agent.as_ref()?.working()?;
                let to = state
                    .listeners
                    .iter()
                    .position(|l| l.generation == Some(working))?;
                let can = state.listeners[to].server && state.connected[to] && to != generation;
                if !can || state.listeners[generation].queued == 0 {
                    return None;
                }
                state.listeners[generation].queued -= 1;
                state.served += 1;
            }
            Action::AgentCloses(generation) => {
                let listener = &state.listeners[generation];
                if listener.pending() > 0 && self.0 != Bug::ClosesFull {
                    return None;
                }
                let slot = listener.slot?;
                // New listeners stand in front, as on IPv4.
                let bucket: Vec<Slot> = state
                    .listeners
                    .iter()
                    .rev()
                    .filter(|l| l.is_open())
                    .filter_map(|l| l.slot)
                    .collect();
                let unneeded: Vec<Slot> = state
                    .agent
                    .as_ref()?
                    .unneeded()
                    .iter()
                    .map(|member| member.slot)
                    .collect();
                if close_order(&bucket, &unneeded).keep == Some(slot) {
                    return None;
                }
                state.agent.as_mut()?.closed(slot);
                (
                    state.listeners[generation].agent,
                    state.listeners[generation].slot,
                ) = (false, None);
                state.reap(generation, false);
            }
            Action::KillServer(generation) => {
                state.may_kill_server = false;
                state.listeners[generation].server = false;
                state.disconnect(generation);
                // Without an agent nobody holds its listeners.
                state.reap(generation, true);
            }
            Action::KillAgent => {
                state.may_kill_agent = false;
                (state.agent, state.publishing) = (None, None);
                state.connected = [false; GENERATIONS];
                for generation in 0..GENERATIONS {
                    state.listeners[generation].agent = false;
                    state.reap(generation, !state.listeners[generation].server);
                }
            }
            Action::RestartAgent => {
                let open =
                    (0..GENERATIONS).filter(|generation| state.listeners[*generation].is_open());
                let left: Vec<Left> = open
                    .filter_map(|generation| {
                        Some(Left {
                            slot: state.listeners[generation].slot?,
                            cookie: cookie(generation),
                            endpoint: 0,
                            address: address(),
                            generation: state.listeners[generation].generation?,
                            name: name(generation),
                            left_at: None,
                            keep: false,
                            tombstone: false,
                        })
                    })
                    .collect();
                state.agent = Some(Service::restored(state.table.clone(), &left));
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is lost", |_, state: &State| state.lost == 0),
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
            Property::sometimes(
                "everything is served across a flip and both kills",
                |_, state: &State| {
                    let killed = !state.may_kill_agent && !state.may_kill_server;
                    killed && state.flips < FLIPS && state.served == SYNS && state.agent.is_some()
                },
            ),
        ]
    }
}

impl State {
    fn disconnect(&mut self, generation: usize) {
        if std::mem::take(&mut self.connected[generation])
            && let Some(agent) = &mut self.agent
        {
            agent.leave(process(generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_keeps_its_promises() {
        let checker = Protocol(Bug::None).checker().threads(2).spawn_bfs().join();
        println!("{} states", checker.unique_state_count());
        checker.assert_properties();
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

    fn finds(bug: Bug, property: &'static str) {
        let checker = Protocol(bug).checker().threads(2).spawn_bfs().join();
        let path = checker.assert_any_discovery(property);
        println!(
            "{bug:?} breaks \"{property}\" in {} steps",
            path.into_actions().len()
        );
    }
}
