//! What there is: a small kernel, two servers and an agent.

use std::net::SocketAddr;

use synflip_plan::{
    Change, GenerationId, Left, Phase, ProcessId, Service, Slot, Table, close_order,
};

use crate::Setting;

/// Generations, each with one listener.
pub(crate) const GENERATIONS: usize = 2;
/// Connections that clients open.
pub(crate) const SYNS: u8 = 2;
/// How often a server is killed.
pub(crate) const SERVER_KILLS: u8 = 2;
/// Flips that the operator asks for.
pub(crate) const FLIPS: u8 = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Listener {
    pub(crate) exists: bool,
    pub(crate) half_open: u8,
    pub(crate) queued: u8,
    /// Whether the server holds it open.
    pub(crate) server: bool,
    /// Whether the agent does, or what keeps descriptors for it.
    pub(crate) agent: bool,
    /// Whether the other generation's server does, to accept what is queued on it.
    pub(crate) lent: bool,
    pub(crate) slot: Option<Slot>,
    /// What the agent notes beside the slot.
    pub(crate) generation: Option<GenerationId>,
    pub(crate) left_at: Option<u32>,
    /// Whether its server has said that it is ready.
    pub(crate) ready: bool,
}

impl Listener {
    pub(crate) fn is_open(&self) -> bool {
        self.exists && (self.server || self.agent || self.lent)
    }

    pub(crate) fn pending(&self) -> u8 {
        self.half_open + self.queued
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) listeners: [Listener; GENERATIONS],
    /// What the kernel follows.
    pub(crate) table: Option<Table>,
    /// The living agent's mind.
    pub(crate) agent: Option<Service>,
    /// A change that it is publishing, and whether the kernel has it already.
    pub(crate) publishing: Option<(Change, bool)>,
    /// Connections that it has accepted itself. It must not.
    pub(crate) in_hands: u8,
    /// Whether each server has been told to close.
    pub(crate) told: [bool; GENERATIONS],
    /// Each server's connection to the agent.
    pub(crate) connected: [bool; GENERATIONS],
    pub(crate) syns: u8,
    pub(crate) flips: u8,
    pub(crate) server_kills: u8,
    pub(crate) may_kill_agent: bool,
    /// Connections that died because nobody was left to hold their listener.
    pub(crate) excused: u8,
    /// Connections that died otherwise.
    pub(crate) lost: u8,
    pub(crate) served: u8,
    /// Who has worked, and who has been flipped away from and not back: to compare with what the
    /// agent thinks.
    pub(crate) worked: [bool; GENERATIONS],
    pub(crate) left: [bool; GENERATIONS],
}

pub(crate) fn name(generation: usize) -> String {
    format!("gen{}", generation + 1)
}

pub(crate) fn process(generation: usize) -> ProcessId {
    ProcessId(1 + generation as u64)
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 80).into()
}

fn cookie(generation: usize) -> u64 {
    100 + generation as u64
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            listeners: Default::default(),
            table: None,
            agent: Some(Service::new()),
            publishing: None,
            in_hands: 0,
            told: [false; GENERATIONS],
            connected: [false; GENERATIONS],
            syns: SYNS,
            flips: FLIPS,
            server_kills: SERVER_KILLS,
            may_kill_agent: true,
            excused: 0,
            lost: 0,
            served: 0,
            worked: [false; GENERATIONS],
            left: [false; GENERATIONS],
        }
    }

    pub(crate) fn phase(&self, generation: usize) -> Option<Phase> {
        let name = name(generation);
        let generations = self.agent.as_ref()?.generations();
        let found = generations
            .iter()
            .find(|generation| generation.name == name);
        found.map(|generation| generation.phase)
    }

    /// The generation that the kernel gives new connections to.
    pub(crate) fn steered_to(&self) -> Option<usize> {
        let slot = self.table.as_ref()?.slots(0).first().copied()?;
        self.listeners
            .iter()
            .position(|l| l.slot == Some(slot) && l.is_open())
    }

    /// A listener that nobody holds any more takes what is on it along.
    pub(crate) fn reap(&mut self, generation: usize, excused: bool) {
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

    pub(crate) fn is_unneeded(&self, generation: usize) -> bool {
        let slot = self.listeners[generation].slot;
        self.publishing.is_none()
            && self.agent.as_ref().is_some_and(|agent| {
                agent
                    .unneeded()
                    .iter()
                    .any(|member| Some(member.slot) == slot)
            })
    }

    /// Whether the agent waits for the process of a listener to come back.
    pub(crate) fn is_absent(&self, generation: usize) -> bool {
        let slot = self.listeners[generation].slot;
        let absent = self.agent.as_ref().map(Service::absent);
        let mut absent = absent.unwrap_or_default().into_iter();
        absent.any(|member| Some(member.slot) == slot)
    }

    /// The generation whose server can be given what is queued on another one's listener.
    pub(crate) fn taker(&self, generation: usize) -> Option<usize> {
        let working = self.agent.as_ref()?.working()?;
        let to = self
            .listeners
            .iter()
            .position(|l| l.generation == Some(working))?;
        (self.listeners[to].server && self.connected[to] && to != generation).then_some(to)
    }

    pub(crate) fn register(&mut self, generation: usize) {
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

    pub(crate) fn disconnect(&mut self, generation: usize) {
        if std::mem::take(&mut self.connected[generation])
            && let Some(agent) = &mut self.agent
        {
            agent.leave(process(generation));
        }
    }

    /// The agent closes a listener, unless that is the first of its hash bucket.
    pub(crate) fn close(&mut self, generation: usize) -> Option<()> {
        let agent = self.agent.as_mut()?;
        let slot = self.listeners[generation].slot?;
        // New listeners stand in front, as on IPv4.
        let open = self.listeners.iter().rev().filter(|l| l.is_open());
        let bucket: Vec<Slot> = open.filter_map(|l| l.slot).collect();
        let unneeded = agent.unneeded().into_iter();
        let unneeded: Vec<Slot> = unneeded.map(|member| member.slot).collect();
        if close_order(&bucket, &unneeded).keep == Some(slot) {
            return None;
        }
        agent.closed(slot);
        let listener = &mut self.listeners[generation];
        (listener.agent, listener.slot) = (false, None);
        self.reap(generation, false);
        Some(())
    }

    /// Notes that a change flips away from a generation.
    pub(crate) fn note_departure(&mut self, change: &Change) {
        let Some(flip) = &change.flip else { return };
        let epoch = u32::try_from(flip.epoch).unwrap_or(u32::MAX);
        for listener in &mut self.listeners {
            if listener.generation.is_some() && listener.generation == flip.from {
                listener.left_at = Some(epoch);
            }
        }
    }

    pub(crate) fn kill_agent(&mut self, setting: Setting) {
        self.lost += std::mem::take(&mut self.in_hands);
        (self.agent, self.publishing) = (None, None);
        self.connected = [false; GENERATIONS];
        for generation in 0..GENERATIONS {
            self.listeners[generation].agent &= setting == Setting::WithStore;
            self.reap(generation, true);
        }
    }

    /// An agent starts, and finds what there is.
    ///
    /// Going by age, it takes each generation that is older than the working one for one that
    /// has been flipped away from, and no other.
    pub(crate) fn recover(&mut self, by_age: bool) {
        let working = self.table.as_ref().map(Table::generation);
        let open = (0..GENERATIONS).filter(|generation| self.listeners[*generation].is_open());
        let left: Vec<Left> = open
            .filter_map(|generation| {
                let listener = &self.listeners[generation];
                Some(Left {
                    slot: listener.slot?,
                    cookie: cookie(generation),
                    endpoint: 0,
                    address: address(),
                    generation: listener.generation?,
                    name: name(generation),
                    left_at: if by_age {
                        (listener.generation < working).then_some(1)
                    } else {
                        listener.left_at
                    },
                    keep: false,
                    tombstone: false,
                })
            })
            .collect();
        self.agent = Some(Service::restored(self.table.clone(), &left));
    }
}
