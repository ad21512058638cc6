//! Every state that can be reached, breadth first, and where each comes to rest.
//!
//! Two things keep this small. Steps that no other party can see the moment of are taken at once
//! (`carry_out_what_nobody_sees`). And a state is not visited when the same has been visited with
//! at least as much that may yet happen to it: whatever can happen to this one can happen to that
//! one.

use std::{collections::HashMap, hash::BuildHasherDefault};

use crate::{
    actions::Action,
    budget::Budget,
    fingerprint::Same,
    scope::Scope,
    trace,
    world::{Life, World},
};

/// A state, by its number.
type At = u32;

/// How a state was reached, and the state that follows if nothing more goes wrong.
struct Node {
    /// What may happen yet, packed.
    left: u64,
    before: At,
    /// Itself at rest, and as long as it has not been searched.
    fair: At,
    /// Another state that differs in nothing but what may happen yet.
    other: At,
    /// Its number among those that were possible before.
    action: u8,
    is_searched: bool,
}

const NONE: At = At::MAX;

/// The states of one scope.
pub(crate) struct Search<'a> {
    scope: &'a Scope,
    first: World,
    nodes: Vec<Node>,
    by_print: HashMap<u64, At, BuildHasherDefault<Same>>,
    /// What states at rest look like.
    summaries: HashMap<At, String>,
    /// Idle states, and what becomes of them when the agent dies there.
    deaths: Vec<(At, At)>,
    most: usize,
}

/// How much of a scope has been searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Each state of it.
    All(usize),
    /// The nearest ones: there are too many.
    First(usize),
}

impl Extent {
    /// How many states have been visited.
    pub(crate) fn states(self) -> usize {
        let (Self::All(states) | Self::First(states)) = self;
        states
    }
}

/// What was found.
pub(crate) struct Found {
    pub(crate) what: String,
    pub(crate) trace: String,
}

impl<'a> Search<'a> {
    /// Begins where the first `started` processes have come to rest.
    pub(crate) fn new(scope: &'a Scope, started: usize, most: usize) -> Self {
        Self {
            scope,
            first: begin(scope, started),
            nodes: Vec::new(),
            by_print: HashMap::default(),
            summaries: HashMap::default(),
            deaths: Vec::new(),
            most,
        }
    }

    /// Searches; returns how many states there are.
    ///
    /// If there are more than it may visit, the rest of those that it has visited is looked at all
    /// the same, as far as it is known.
    pub(crate) fn run(&mut self) -> Result<Extent, Found> {
        let first = self.first.clone();
        let (at, _) = self.visit(&first, 0, 0);
        let mut layer = vec![(at, first)];
        let mut is_all = true;
        'all: while !layer.is_empty() {
            let mut next = Vec::new();
            for (at, world) in layer {
                self.expand(at, &world, &mut next)?;
                if self.nodes.len() > self.most {
                    is_all = false;
                    break 'all;
                }
            }
            layer = next;
        }
        self.all_come_to_rest()?;
        self.no_crash_matters()?;
        let states = self.nodes.len();
        Ok(if is_all {
            Extent::All(states)
        } else {
            Extent::First(states)
        })
    }

    /// The number of a state, or of one that it is the same as but for having less left that may
    /// happen; and whether it is new.
    fn visit(&mut self, world: &World, before: At, action: u8) -> (At, bool) {
        let left = world.budget.packed();
        let new = At::try_from(self.nodes.len()).expect("there are fewer states than numbers");
        let head = self.by_print.entry(world.fingerprint()).or_insert(NONE);
        let mut at = *head;
        while at != NONE {
            let node = &self.nodes[at as usize];
            if Budget::covers(node.left, left) {
                return (at, false);
            }
            at = node.other;
        }
        self.nodes.push(Node {
            left,
            before,
            fair: new,
            other: *head,
            action,
            is_searched: false,
        });
        *head = new;
        (new, true)
    }

    fn expand(&mut self, at: At, world: &World, next: &mut Vec<(At, World)>) -> Result<(), Found> {
        let fair = world.fair(self.scope);
        if fair.is_none() {
            if let Err(what) = world.check_rest(self.scope) {
                return Err(self.found(at, None, what));
            }
            self.summaries.insert(at, world.summary());
        }
        for (number, action) in world.actions(self.scope).into_iter().enumerate() {
            let mut after = world.clone();
            let result = after.step(self.scope, action);
            if let Err(what) = result.and_then(|()| after.check_idle(self.scope)) {
                return Err(self.found(at, Some(action), what));
            }
            let number = u8::try_from(number).expect("there are few actions");
            let (to, is_new) = self.visit(&after, at, number);
            if action == Action::KillAgent && world.is_idle() && self.is_survivable(world) {
                self.deaths.push((at, to));
            }
            if number == 0 && fair.is_some() {
                self.nodes[at as usize].fair = to;
            }
            if is_new {
                next.push((to, after));
            }
        }
        self.nodes[at as usize].is_searched = true;
        Ok(())
    }

    /// Whether the agent's death can take nothing along.
    fn is_survivable(&self, world: &World) -> bool {
        world
            .socks
            .iter()
            .all(|sock| !sock.open || sock.store || sock.procs != 0)
            && world.requests.is_empty()
            && world
                .procs
                .iter()
                .all(|p| p.life != Life::Alive || p.member)
    }

    /// From each state, what is fair leads to one at rest, or to one that has not been searched.
    fn all_come_to_rest(&self) -> Result<(), Found> {
        const UNKNOWN: u8 = 0;
        const ON_PATH: u8 = 1;
        const KNOWN: u8 = 2;
        let mut marks = vec![UNKNOWN; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut path = Vec::new();
            let mut at = start;
            while marks[at] != KNOWN {
                let here = At::try_from(at).expect("states are numbered");
                if marks[at] == ON_PATH {
                    return Err(self.found(here, None, "it never comes to rest".into()));
                }
                marks[at] = ON_PATH;
                path.push(at);
                let node = &self.nodes[at];
                let next = node.fair as usize;
                if next == at {
                    if node.is_searched && !self.summaries.contains_key(&here) {
                        return Err(self.found(here, None, "a step changes nothing".into()));
                    }
                    break;
                }
                at = next;
            }
            path.into_iter().for_each(|at| marks[at] = KNOWN);
        }
        Ok(())
    }

    fn no_crash_matters(&self) -> Result<(), Found> {
        for (before, after) in &self.deaths {
            let (Some(with), Some(without)) = (self.rest_of(*after), self.rest_of(*before)) else {
                continue;
            };
            if with != without {
                let what = format!(
                    "the agent dies, and in the end it is not as without:\n  with    {with}\n  \
                     without {without}"
                );
                return Err(self.found(*after, None, what));
            }
        }
        Ok(())
    }

    /// What there is in the end, if that has been searched.
    fn rest_of(&self, mut at: At) -> Option<&str> {
        while self.nodes[at as usize].fair != at {
            at = self.nodes[at as usize].fair;
        }
        self.summaries.get(&at).map(String::as_str)
    }

    fn found(&self, at: At, last: Option<Action>, what: String) -> Found {
        let mut path = Vec::new();
        let mut at = at;
        while at != 0 {
            let node = &self.nodes[at as usize];
            path.push(usize::from(node.action));
            at = node.before;
        }
        path.reverse();
        let trace = trace::of(self.scope, &self.first, &path, last);
        Found { what, trace }
    }
}

/// The state in which the first processes have started, and all is at rest.
pub(crate) fn begin(scope: &Scope, started: usize) -> World {
    let mut world = World::new(scope);
    let step = |world: &mut World, action| {
        if let Err(what) = world
            .step(scope, action)
            .and_then(|()| world.check_idle(scope))
        {
            panic!("before anything has happened: {what}");
        }
    };
    let budget = std::mem::take(&mut world.budget);
    for process in 0..started {
        step(&mut world, Action::Start(process));
        while let Some(action) = world.fair(scope) {
            step(&mut world, action);
        }
    }
    world.budget = budget;
    world
}
