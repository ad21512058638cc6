//! Does the machine that ships keep its promises, whatever happens and in whatever order?
//!
//! Around the real [`synflip_plan::Service`] stand a small kernel, servers, systemd, operators and
//! clients. What the machine wants done is carried out one effect at a time, and the agent may die
//! between any two.
//!
//! `cargo test -p synflip-plan --test model -- --nocapture` prints a table of how many states each
//! search has visited; one that says that there are more was cut off, and is not exhaustive.

mod actions;
mod agent;
mod budget;
mod effects;
mod fingerprint;
mod items;
mod kernel;
mod planted;
mod properties;
mod random;
mod scope;
mod search;
mod servers;
mod step;
mod trace;
mod world;

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicU64, AtomicUsize, Ordering},
        },
        thread,
        time::Instant,
    };

    use crate::{
        items, planted, random,
        search::{Extent, Search},
    };

    /// Most states of one search of [`each_item_and_each_pair`]: more are left out, which it says.
    /// `MODEL_STATES` chooses another number.
    const MOST: usize = 500_000;
    /// Most states until a planted mistake has to be found.
    const MOST_UNTIL_FOUND: usize = 2_000_000;
    /// Searches that find something which is not mended yet: an agent that comes after one that has
    /// told a generation to close does not know it, and lets it be flipped to until it has seen it
    /// drain.
    const OPEN: &[&str] = &[];
    /// Random steps: as many as take about a minute.
    const STEPS: usize = 2_000_000;

    fn number(name: &str, otherwise: usize) -> usize {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }

    /// One line of the table.
    struct Line {
        name: String,
        extent: Extent,
        seconds: f64,
    }

    fn table(lines: &mut [Line], seconds: f64) {
        lines.sort_by_key(|line| line.extent.states());
        println!("\n   states        s  searched");
        for Line {
            name,
            extent,
            seconds,
        } in &*lines
        {
            let note = match extent {
                Extent::All(_) => "",
                Extent::First(_) => ", and there are more",
            };
            println!("{:9} {seconds:8.1}  {name}{note}", extent.states());
        }
        let is_all = |line: &&Line| matches!(line.extent, Extent::All(_));
        let all: usize = lines.iter().map(|line| line.extent.states()).sum();
        println!(
            "{all:9} {seconds:8.1}  {} searches, {} of them exhaustive",
            lines.len(),
            lines.iter().filter(is_all).count()
        );
    }

    /// `MODEL_ITEMS` chooses searches by a part of their names.
    #[test]
    fn each_item_and_each_pair() {
        let only = std::env::var("MODEL_ITEMS").unwrap_or_default();
        let most = number("MODEL_STATES", MOST);
        let searches = items::searches();
        let next = AtomicUsize::new(0);
        let (lines, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let begin = Instant::now();
        let worker = || {
            while let Some(items) = searches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let name = format!("{items:?}");
                if !name.contains(&only) {
                    continue;
                }
                let scope = items::scope(items);
                let begin = Instant::now();
                let mut search = Search::new(&scope, items::started(&scope), most);
                match search.run() {
                    Ok(extent) => {
                        let seconds = begin.elapsed().as_secs_f64();
                        let line = Line {
                            name,
                            extent,
                            seconds,
                        };
                        lines.lock().expect("no other has panicked").push(line);
                    }
                    Err(found) if OPEN.contains(&name.as_str()) => {
                        println!("not mended yet: {name}: {}", found.what);
                    }
                    Err(found) => {
                        println!("FAILED {name}: {}", found.what);
                        let mut failures = failures.lock().expect("no other has panicked");
                        failures.push(format!("{name}: {}\n{}", found.what, found.trace));
                    }
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(worker);
            scope.spawn(worker);
        });
        let mut lines = lines.into_inner().expect("none has panicked");
        table(&mut lines, begin.elapsed().as_secs_f64());
        let failures = failures.into_inner().expect("none has panicked");
        assert!(failures.is_empty(), "{}", failures[0]);
    }

    #[test]
    fn each_planted_mistake_is_found() {
        for (mistake, items) in planted::ALL {
            let mut scope = items::scope(items);
            scope.mistake = Some(mistake);
            let mut search = Search::new(&scope, items::started(&scope), MOST_UNTIL_FOUND);
            match search.run() {
                Ok(extent) => panic!("{mistake:?} is not found: {extent:?}"),
                Err(found) => {
                    let steps = found.trace.lines().filter(|line| line.starts_with("- "));
                    println!("{mistake:?}, after {} steps: {}", steps.count(), found.what);
                }
            }
        }
    }

    /// `MODEL_STEPS` and `MODEL_SEED` choose how many steps, and from where.
    #[test]
    fn all_items_together() {
        let steps = number("MODEL_STEPS", STEPS);
        let first = number("MODEL_SEED", 1) as u64;
        let seed = AtomicU64::new(first);
        let taken = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let worker = || {
            while taken.load(Ordering::Relaxed) < steps {
                match random::walk(seed.fetch_add(1, Ordering::Relaxed)) {
                    Ok(more) => {
                        taken.fetch_add(more, Ordering::Relaxed);
                    }
                    Err(found) => {
                        taken.fetch_add(steps, Ordering::Relaxed);
                        *failure.lock().expect("no other has panicked") = Some(found);
                    }
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(worker);
            scope.spawn(worker);
        });
        let failure = failure.into_inner().expect("none has panicked");
        if let Some(found) = failure {
            panic!("{}\n{}", found.what, found.trace);
        }
        let last = seed.into_inner() - 1;
        println!(
            "{} random steps, seeds {first} to {last}",
            taken.into_inner()
        );
    }
}
