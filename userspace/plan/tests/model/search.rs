//! Every state that can be reached, breadth first, and where each comes to rest.

use std::{collections::HashMap, hash::BuildHasherDefault};

use crate::{
    actions::Action,
    fingerprint::Same,
    scope::Scope,
    trace,
    world::{Life, World},
};

type Map<T> = HashMap<u64, T, BuildHasherDefault<Same>>;

/// How a state was reached, and the state that follows if nothing more goes wrong.
struct Node {
    before: u64,
    action: u8,
    /// Itself at rest.
    fair: u64,
}

/// The states of one scope.
pub(crate) struct Search<'a> {
    scope: &'a Scope,
    first: World,
    nodes: Map<Node>,
    summaries: Map<String>,
    /// Idle states, and what becomes of them when the agent dies there.
    deaths: Vec<(u64, u64)>,
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
            nodes: Map::default(),
            summaries: Map::default(),
            deaths: Vec::new(),
            most,
        }
    }

    /// Searches; returns how many states there are.
    pub(crate) fn run(&mut self) -> Result<Extent, Found> {
        let first = self.first.fingerprint();
        self.nodes.insert(
            first,
            Node {
                before: first,
                action: 0,
                fair: first,
            },
        );
        let mut layer = vec![(first, self.first.clone())];
        while !layer.is_empty() {
            let mut next = Vec::new();
            for (print, world) in layer {
                self.expand(print, &world, &mut next)?;
                if self.nodes.len() > self.most {
                    // What has been seen is sound; where all of it comes to rest is not known.
                    return Ok(Extent::First(self.nodes.len()));
                }
            }
            layer = next;
        }
        self.all_come_to_rest()?;
        self.no_crash_matters()?;
        Ok(Extent::All(self.nodes.len()))
    }

    fn expand(
        &mut self,
        print: u64,
        world: &World,
        next: &mut Vec<(u64, World)>,
    ) -> Result<(), Found> {
        let fair = world.fair(self.scope);
        if fair.is_none() {
            if let Err(what) = world.check_rest(self.scope) {
                return Err(self.found(print, None, what));
            }
            self.summaries.insert(print, world.summary());
        }
        for (at, action) in world.actions(self.scope).into_iter().enumerate() {
            let mut after = world.clone();
            let result = after.step(self.scope, action);
            if let Err(what) = result.and_then(|()| after.check_idle(self.scope)) {
                return Err(self.found(print, Some(action), what));
            }
            let to = after.fingerprint();
            if action == Action::KillAgent && world.is_idle() && self.is_survivable(world) {
                self.deaths.push((print, to));
            }
            if at == 0
                && fair.is_some()
                && let Some(node) = self.nodes.get_mut(&print)
            {
                node.fair = to;
            }
            let number = u8::try_from(at).expect("there are few actions");
            self.nodes.entry(to).or_insert_with(|| {
                next.push((to, after));
                Node {
                    before: print,
                    action: number,
                    fair: to,
                }
            });
        }
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

    fn all_come_to_rest(&self) -> Result<(), Found> {
        let mut known: Map<()> = Map::default();
        for start in self.nodes.keys() {
            let mut path = Vec::new();
            let mut on_path: Map<()> = Map::default();
            let mut at = *start;
            while !known.contains_key(&at) {
                if on_path.insert(at, ()).is_some() {
                    return Err(self.found(at, None, "it never comes to rest".into()));
                }
                path.push(at);
                let next = self.nodes.get(&at).map_or(at, |node| node.fair);
                if next == at {
                    if !self.summaries.contains_key(&at) {
                        return Err(self.found(at, None, "a step changes nothing".into()));
                    }
                    break;
                }
                at = next;
            }
            known.extend(path.into_iter().map(|print| (print, ())));
        }
        Ok(())
    }

    fn no_crash_matters(&self) -> Result<(), Found> {
        for (before, after) in &self.deaths {
            let (with, without) = (self.rest_of(*after), self.rest_of(*before));
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

    fn rest_of(&self, print: u64) -> &str {
        let mut at = print;
        while let Some(node) = self.nodes.get(&at) {
            if node.fair == at {
                break;
            }
            at = node.fair;
        }
        self.summaries.get(&at).map_or("", String::as_str)
    }

    fn found(&self, print: u64, last: Option<Action>, what: String) -> Found {
        let mut path = Vec::new();
        let mut at = print;
        while let Some(node) = self.nodes.get(&at) {
            if node.before == at {
                break;
            }
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
