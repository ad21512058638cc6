//! What a service's thread keeps, seen from inside.

use std::fs::File;

use super::*;
use crate::registry;

#[test]
fn processes_that_have_gone_are_forgotten() {
    let (registry, _inbox) = registry::tests::registry();
    let mut executor = Executor::new("web".parse().unwrap(), 0, registry.setting);
    // Each registers, and all but the first have gone when the next one comes.
    for number in 0..100 {
        executor.carry_out(Task::Incoming {
            process: ProcessId(number),
            identity: Process::UNKNOWN,
            listeners: Vec::new(),
            netns: File::open("/proc/self/ns/net").unwrap().into(),
        });
        executor.carry_out(Task::Known([ProcessId(0), ProcessId(number)].into()));
    }
    let mut kept: Vec<u64> = executor.processes.keys().map(|process| process.0).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 99]);
}
