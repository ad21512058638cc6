//! All items together: random steps, each walk from the beginning, and to rest in the end.

use crate::{
    actions::Action,
    budget::Budget,
    items,
    scope::Scope,
    search::{Found, begin},
    trace,
    world::World,
};

/// Steps of one walk before everything is left to come to rest.
const STEPS: usize = 400;
/// Steps within which everything comes to rest.
const PATIENCE: usize = 2_000;

/// A generator of random numbers (xorshift*): the same seed gives the same walk.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).unwrap_or(0) % end
    }
}

/// All items, as many of each as the model has.
fn scope(random: &mut Random) -> Scope {
    let mut all: Vec<_> = items::ALL.to_vec();
    // With all of them at once there would be little room for any.
    all.retain(|_| random.below(3) > 0);
    let mut scope = items::scope(&all);
    let mut few = |most: usize| u8::try_from(random.below(most + 1)).unwrap_or(0);
    scope.budget = Budget {
        connections: 2 + few(6),
        flips: few(4),
        retires: few(2),
        kills: few(3),
        stops: few(2),
        agent_deaths: few(3),
        refusals: few(2),
        thefts: few(2),
        strangers: few(1),
        hangs: few(2),
    };
    scope.store = few(1) == 1;
    scope.keep = few(1) == 1;
    scope.force = few(1) == 1;
    scope.newest_first = few(1) == 1;
    scope.migrates = few(3) == 1;
    scope.flights = true;
    scope
}

/// Takes one walk; returns how many steps it had.
pub(crate) fn walk(seed: u64) -> Result<usize, Found> {
    let mut random = Random::new(seed);
    let scope = scope(&mut random);
    let first = begin(&scope, 1);
    let mut world = first.clone();
    let mut path: Vec<Action> = Vec::new();
    for at in 0..STEPS + PATIENCE {
        let action = if at < STEPS {
            let actions = world.actions(&scope);
            // What is fair is taken more often: else little gets done.
            let pick = random
                .below(2 * actions.len().max(1))
                .saturating_sub(actions.len());
            actions.get(pick).copied()
        } else {
            world.fair(&scope)
        };
        let Some(action) = action else {
            let rested = world.fair(&scope).is_none();
            if rested {
                check(&world, &scope).map_err(|what| found(&scope, &first, &path, seed, what))?;
            }
            return Ok(at);
        };
        path.push(action);
        let result = world.step(&scope, action);
        result
            .and_then(|()| world.check_idle(&scope))
            .map_err(|what| found(&scope, &first, &path, seed, what))?;
    }
    let what = "it never comes to rest".into();
    Err(found(&scope, &first, &path, seed, what))
}

fn check(world: &World, scope: &Scope) -> Result<(), String> {
    world.check_rest(scope)
}

/// Shortens what led to it: steps are left out as long as the same is found.
fn found(scope: &Scope, first: &World, path: &[Action], seed: u64, what: String) -> Found {
    // Numbers of listeners and of what is pending may differ.
    let kind = |what: &str| what.replace(|c: char| c.is_ascii_digit(), "");
    let mut path = path.to_vec();
    for pieces in [16, 4, 1, 2, 1] {
        let mut at = path.len();
        while at > 0 {
            at = at.saturating_sub(pieces).min(path.len());
            let mut shorter = path.clone();
            shorter.drain(at..(at + pieces).min(path.len()));
            if let Some((taken, again)) = replay(scope, first, &shorter)
                && kind(&again) == kind(&what)
            {
                path = taken;
            }
        }
    }
    Found {
        what: format!("{what} (seed {seed})"),
        trace: format!("{scope:?}\n{}", trace::of_actions(scope, first, &path)),
    }
}

/// What is found on a path, or when all comes to rest after it; steps that cannot be taken are
/// left out.
fn replay(scope: &Scope, first: &World, path: &[Action]) -> Option<(Vec<Action>, String)> {
    let mut world = first.clone();
    let mut taken = Vec::new();
    for action in path {
        if !world.actions(scope).contains(action) {
            continue;
        }
        taken.push(*action);
        let result = world.step(scope, *action);
        if let Err(what) = result.and_then(|()| world.check_idle(scope)) {
            return Some((taken, what));
        }
    }
    for _ in 0..PATIENCE {
        let Some(action) = world.fair(scope) else {
            return Some((taken, world.check_rest(scope).err()?));
        };
        let result = world.step(scope, action);
        if let Err(what) = result.and_then(|()| world.check_idle(scope)) {
            return Some((taken, what));
        }
    }
    Some((taken, "it never comes to rest".into()))
}
