//! What led to a state, in plain words.

use std::fmt::Write as _;

use crate::{actions::Action, scope::Scope, world::World};

/// The steps from a state on, each by its number among those that were possible; then one more,
/// then what happens if nothing more goes wrong.
pub(crate) fn of(scope: &Scope, first: &World, path: &[usize], last: Option<Action>) -> String {
    let mut text = String::new();
    let mut world = first.clone();
    show(&mut text, &world);
    for number in path {
        let Some(action) = world.actions(scope).get(*number).copied() else {
            break;
        };
        step(&mut text, scope, &mut world, action);
    }
    if let Some(action) = last {
        step(&mut text, scope, &mut world, action);
        return text;
    }
    rest(&mut text, scope, &mut world);
    text
}

fn rest(text: &mut String, scope: &Scope, world: &mut World) {
    text.push_str("from here on nothing more goes wrong:\n");
    for _ in 0..40 {
        let Some(action) = world.fair(scope) else {
            text.push_str("at rest\n");
            if std::env::var_os("MODEL_DEBUG").is_some() {
                let _infallible = writeln!(text, "{:#?}", world.machine);
            }
            return;
        };
        if !step(text, scope, world, action) {
            return;
        }
    }
}

/// The steps from a state on.
pub(crate) fn of_actions(scope: &Scope, first: &World, path: &[Action]) -> String {
    let mut text = String::new();
    let mut world = first.clone();
    show(&mut text, &world);
    for action in path {
        if !step(&mut text, scope, &mut world, *action) {
            return text;
        }
    }
    rest(&mut text, scope, &mut world);
    text
}

fn step(text: &mut String, scope: &Scope, world: &mut World, action: Action) -> bool {
    let subject = match action {
        Action::CarryOut(_) => world.effects.front().map(|effect| format!("{effect:?}")),
        Action::Deliver => world.reports.front().map(|report| format!("{report:?}")),
        _ => None,
    };
    let _infallible = writeln!(text, "- {action:?} {}", subject.unwrap_or_default());
    let result = world
        .step(scope, action)
        .and_then(|()| world.check_idle(scope));
    show(text, world);
    if let Err(what) = &result {
        let _infallible = writeln!(text, "  !! {what}");
    }
    result.is_ok()
}

fn show(text: &mut String, world: &World) {
    let _infallible = write!(text, "    ");
    for (at, sock) in world.socks.iter().enumerate().filter(|(_, sock)| sock.open) {
        let custody = if world.in_custody(at) { "a" } else { "" };
        let store = if sock.store { "s" } else { "" };
        let _infallible = write!(
            text,
            "[{at}: {}+{}+{} by {:b} lent {:b} {custody}{store}] ",
            sock.flight, sock.half, sock.queued, sock.procs, sock.lent
        );
    }
    if let Some(machine) = &world.machine {
        let name = |id| machine.generation(id).map(|g| g.name.as_str().to_owned());
        let _infallible = write!(text, "working {:?}", machine.working().and_then(name));
        for generation in machine.generations() {
            let _infallible = write!(text, " {} {:?}", generation.name, generation.phase);
        }
        if let Some(at) = world.wake {
            let _infallible = write!(text, " wake in {}", at - crate::world::NOW);
        }
    } else {
        text.push_str("no agent");
    }
    if !world.effects.is_empty() {
        let _infallible = write!(text, "\n    to do: {:?}", world.effects);
    }
    text.push('\n');
}
