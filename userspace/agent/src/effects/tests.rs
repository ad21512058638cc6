//! What a service's thread keeps, seen from inside.

use std::{fs::File, io::Read as _, os::unix::net::UnixStream, thread};

use super::*;
use crate::{limits, registry};

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

#[test]
fn a_thread_has_closed_all_that_it_had_when_it_says_that_it_ends() {
    let (registry, _inbox) = registry::tests::registry();
    // The loop does not hear it: it has other things to do.
    let (messages, mut loop_) = mpsc::channel(1);
    messages.try_send(Message::Stop).unwrap();
    let setting = Setting {
        messages,
        ..registry.setting
    };
    let executor = Executor::new("web".parse().unwrap(), 0, setting);
    let (mut seen, held) = UnixStream::pair().unwrap();
    let worker = Worker::start(executor).unwrap();
    worker.give(Task::Followed {
        process: ProcessId(1),
        identity: Process::UNKNOWN,
        pidfd: held.into(),
    });
    worker.give(Task::Effect(Effect::End));
    seen.set_read_timeout(Some(limits::PATIENCE)).unwrap();
    assert_eq!(seen.read(&mut [0]).unwrap(), 0, "it is closed");
    let hears = thread::spawn(move || {
        while let Some(message) = loop_.blocking_recv() {
            if let Message::Report { report, .. } = message {
                return matches!(report, Report::Ended);
            }
        }
        false
    });
    worker.finish();
    assert!(hears.join().unwrap());
}
