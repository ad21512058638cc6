//! Several things at a time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use crate::Job;

/// Does something with each item, so many at a time; whoever is free takes the next one. The
/// results are in the order of the items.
pub fn each<I: Sync, T: Send>(
    items: &[I],
    at_a_time: usize,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_a_time.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does something with each job: so many at a time, and then those which run alone.
pub fn all<T: Send>(jobs: &[Job], at_a_time: usize, work: impl Fn(&Job) -> T + Sync) -> Vec<T> {
    let (alone, together): (Vec<&Job>, _) = jobs.iter().partition(|job| job.alone);
    let mut results = each(&together, at_a_time, |job| work(job));
    results.extend(each(&alone, 1, |job| work(job)));
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        assert_eq!(each(&[3, 1, 2], 2, |number| number * 2), [6, 2, 4]);
        assert_eq!(each(&[3, 1, 2], 0, |number| number * 2), [6, 2, 4]);
        assert!(each(&[0; 0], 2, |number| *number).is_empty());
    }

    #[test]
    fn who_wants_to_be_alone_is_alone() {
        let job = |at: usize| Job {
            name: at.to_string(),
            alone: at.is_multiple_of(3),
            ..Job::default()
        };
        let jobs: Vec<Job> = (0..12).map(job).collect();
        let running = AtomicUsize::new(0);
        let names = all(&jobs, 4, |job| {
            let others = running.fetch_add(1, Relaxed);
            assert!(!job.alone || others == 0, "{others} beside {}", job.name);
            thread::yield_now();
            running.fetch_sub(1, Relaxed);
            job.name.clone()
        });
        assert_eq!(names.len(), 12);
        assert_eq!(names[8..], ["0", "3", "6", "9"]);
    }
}
