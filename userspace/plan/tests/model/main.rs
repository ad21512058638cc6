//! Does the machine that ships keep its promises, whatever happens and in whatever order?
//!
//! Around the real [`synflip_plan::Service`] stand a small kernel, servers, systemd, operators and
//! clients. What the machine wants done is carried out one effect at a time, and the agent may die
//! between any two.

mod actions;
mod agent;
mod fingerprint;
mod items;
mod kernel;
mod planted;
mod properties;
mod scope;
mod search;
mod servers;
mod trace;
mod world;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::{items, search::Search};

    #[test]
    fn each_item_and_each_pair() {
        let most = std::env::var("MOST")
            .ok()
            .and_then(|most| most.parse().ok())
            .unwrap_or(2_000_000);
        let only = std::env::var("ITEMS").unwrap_or_default();
        for items in items::searches() {
            let name = format!("{items:?}");
            if !only.is_empty() && !name.contains(&only) {
                continue;
            }
            let scope = items::scope(&items);
            let begin = Instant::now();
            let mut search = Search::new(&scope, items::started(&scope), most);
            match search.run() {
                Ok(states) => println!("{states:8} states in {:?}: {name}", begin.elapsed()),
                Err(found) => {
                    println!(
                        "{:8} FAILED states in {:?}: {name}: {}",
                        0,
                        begin.elapsed(),
                        found.what
                    );
                    if !only.is_empty() {
                        panic!("{}", found.trace);
                    }
                }
            }
        }
    }
}
