//! Cases that wait more than they compute, played some at a time.

use std::{
    fmt::Debug,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};

/// Plays all cases; returns what comes of each, in the order in which they end. Their errors name
/// the case.
///
/// Not for what is timed, nor for what keeps the processors busy.
pub(crate) fn at_once<C: Clone + Debug + Send, T: Send>(
    cases: impl IntoIterator<Item = C>,
    play: impl Fn(C) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut cases: Vec<C> = cases.into_iter().collect();
    cases.reverse();
    let (cases, ends) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let end = play(case.clone()).with_context(|| format!("{case:?}"));
                    ends.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(end);
                }
            });
        }
    });
    let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    ends.into_iter().collect()
}

const AT_A_TIME: usize = 4;
