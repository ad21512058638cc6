//! What can happen next, and what comes of it.

use stateright::{Model, Property};
use synflip_plan::{Phase, Target};

use crate::{
    Bug, Protocol, properties,
    state::{GENERATIONS, Listener, State, name, process},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
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
    Lend(usize),
    AcceptLent(usize),
    GiveBack(usize),
    HandOver,
    AgentCloses(usize),
    Refresh,
    KillServer(usize),
    KillAgent,
    RestartAgent,
    Reconnect(usize),
    /// The process of a listener has had time enough to come back, or the listener is gone.
    Lose(usize),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let idle = state.agent.is_some() && state.publishing.is_none();
        // The first to start is the first to work, if it is ready in time.
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
                actions.push(Action::Lend(generation));
                actions.push(Action::AgentCloses(generation));
            }
            if listener.lent {
                actions.push(if listener.queued > 0 {
                    Action::AcceptLent(generation)
                } else {
                    Action::GiveBack(generation)
                });
            }
            if state.server_kills > 0 && listener.server {
                actions.push(Action::KillServer(generation));
            }
            // Told to close, it has nothing to register any more.
            let may_reconnect = !state.connected[generation] && !state.told[generation];
            if state.agent.is_some() && listener.server && may_reconnect {
                actions.push(Action::Reconnect(generation));
            }
            if !listener.server && state.is_absent(generation) {
                actions.push(Action::Lose(generation));
            }
        }
        if state.syns > 0 && state.steered_to().is_some() {
            actions.push(Action::Syn);
        }
        if state.in_hands > 0 {
            actions.push(Action::HandOver);
        }
        match &state.publishing {
            Some((_, false)) => {
                actions.push(Action::Publish);
                if self.bug == Bug::CommitsEarly {
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
            Action::Accept(generation) | Action::AcceptLent(generation) => {
                state.listeners[generation].queued -= 1;
                state.served += 1;
            }
            Action::Flip(generation) => {
                let target = Target::Named(name(generation));
                let change = state.agent.as_mut()?.begin_flip(&target, None).ok()?;
                state.flips -= 1;
                self.begin(&mut state, change);
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
                self.begin(&mut state, change?);
            }
            Action::Publish => {
                let (change, published) = state.publishing.as_mut()?;
                let gone = change.table.all_slots().find(|slot| {
                    let mut listeners = state.listeners.iter();
                    !listeners.any(|l| l.slot == Some(*slot) && l.is_open())
                });
                if let Some(slot) = gone {
                    let agent = state.agent.as_mut()?;
                    agent.abort();
                    agent.lose(slot);
                    state.publishing = None;
                    return Some(state);
                }
                (*published, state.table) = (true, Some(change.table.clone()));
                if let Some(flip) = &change.flip {
                    for (generation, listener) in state.listeners.iter().enumerate() {
                        let is = |id| listener.generation.is_some() && listener.generation == id;
                        state.worked[generation] |= is(Some(flip.to));
                        state.left[generation] &= !is(Some(flip.to));
                        state.left[generation] |= is(flip.from);
                    }
                }
            }
            Action::Commit => {
                let (change, _published) = state.publishing.take()?;
                state.agent.as_mut()?.commit();
                if self.bug == Bug::NotesLate {
                    state.note_departure(&change);
                }
                // Not published yet, it will be a little later: modelled as never, which is no
                // worse.
            }
            Action::Drained(generation) => {
                let listener = &state.listeners[generation];
                let left = match self.bug {
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
            Action::Lend(generation) => {
                let listener = &state.listeners[generation];
                state.taker(generation)?;
                if listener.queued == 0 || listener.lent || !listener.agent {
                    return None;
                }
                if self.bug == Bug::AcceptsItself {
                    state.listeners[generation].queued -= 1;
                    state.in_hands += 1;
                } else {
                    state.listeners[generation].lent = true;
                }
            }
            Action::GiveBack(generation) => {
                state.listeners[generation].lent = false;
                state.reap(generation, true);
            }
            Action::HandOver => {
                state.in_hands -= 1;
                state.served += 1;
            }
            Action::AgentCloses(generation) => {
                let listener = &state.listeners[generation];
                let full = listener.pending() > 0 || listener.lent;
                if full && self.bug != Bug::ClosesFull {
                    return None;
                }
                state.close(generation)?;
            }
            Action::KillServer(generation) => {
                state.server_kills -= 1;
                state.listeners[generation].server = false;
                state.disconnect(generation);
                // Without an agent nobody may be left to hold its listener, or one lent to it.
                state.reap(generation, true);
                for other in (0..GENERATIONS).filter(|other| *other != generation) {
                    state.listeners[other].lent = false;
                    state.reap(other, true);
                }
            }
            Action::KillAgent => {
                state.may_kill_agent = false;
                state.kill_agent(self.setting);
            }
            Action::RestartAgent => state.recover(self.bug == Bug::GoesByAge),
            Action::Lose(generation) => {
                let slot = state.listeners[generation].slot?;
                state.agent.as_mut()?.lose(slot);
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Protocol {
    /// The agent begins to publish a change.
    fn begin(&self, state: &mut State, change: synflip_plan::Change) {
        if self.bug != Bug::NotesLate {
            state.note_departure(&change);
        }
        state.publishing = Some((change, false));
    }
}
