//! Dying on purpose, at a point that has a name: how tests show that nothing depends on the agent
//! getting any further.

use std::{
    fmt,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::process::{Signal, getpid, kill_process};
use synflip_wire::{Event, Reply};

/// Declares the points once, with their names.
macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A point in the agent's work, in the order of a service's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A service's pins have been opened after a restart and its dead slots emptied.
    Recovering = "recovering",
    /// A service has been taken up after a restart; no process is back.
    Restored = "restored",
    /// The listeners of a registration have come and passed inspection; none is in a slot.
    ListenersTaken = "listeners-taken",
    /// A new service's maps are made and pinned; no listener is in them.
    ServiceFounded = "service-founded",
    /// A listener is in its slot, and nothing says whose it is.
    SlotFilled = "slot-filled",
    /// The note beside the slot is written.
    NoteWritten = "note-written",
    /// The program is on a listener's reuseport group.
    Attached = "attached",
    /// systemd has been given a listener.
    Stored = "stored",
    /// A process's listeners are all in place, and it has not been told.
    Registered = "registered",
    /// A process has said that it is ready, and has no answer.
    ReadyNoted = "ready-noted",
    /// A flip has been agreed to; the kernel knows nothing of it.
    FlipBegun = "flip-begun",
    /// The old generation's listeners are noted as leaving; the kernel knows nothing of it.
    DepartureNoted = "departure-noted",
    /// The new slot table is filled; its slots have not been verified.
    TableFilled = "table-filled",
    /// Its slots are verified; the kernel still follows the old one.
    BeforePublish = "before-publish",
    /// The kernel follows the new one, and a grace period has passed; nobody has been told.
    AfterPublish = "after-publish",
    /// The commit is in the agent's books, and nowhere else.
    CommitRecorded = "commit-recorded",
    /// The old generation's listeners have been prepared for the drain, its processes told.
    DrainBegun = "drain-begun",
    /// The operator has been told that the flip has committed.
    OperatorTold = "operator-told",
    /// What is pending on an old listener has been read, in the middle of looking at all of them.
    ReadingQueues = "reading-queues",
    /// Nothing is pending on the old generation, and nobody has been told.
    Drained = "drained",
    /// A process has been told that it may close.
    ServerTold = "server-told",
    /// A generation has been retired, which is noted; nobody has been told.
    Retired = "retired",
    /// The death of a process, or its leaving, has been noticed.
    ProcessGone = "process-gone",
    /// A dead process's queue is about to be lent to a process that can accept from it.
    BeforeLending = "before-lending",
    /// It has been sent to that process, which has not said that nothing is left on it.
    Lent = "lent",
    /// The process has said so.
    GivenBack = "given-back",
    /// A listener that nobody needs is about to be closed; it is in its slot.
    BeforeClose = "before-close",
    /// It is out of its slot, and open.
    SlotEmptied = "slot-emptied",
    /// It is closed; systemd may have it.
    AfterClose = "after-close",
    /// systemd has been told to close it.
    StoreForgotten = "store-forgotten",
    /// A drained listener has been noted as a tombstone.
    Buried = "buried",
    /// A service is over; its pins are there.
    BeforeUnpin = "before-unpin",
}

impl Point {
    /// The point that has been reached when a message has been written to a peer.
    pub(crate) const fn sent(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Committed(_) => Some(Self::OperatorTold),
            Reply::Event(Event::Drained | Event::Retired) => Some(Self::ServerTold),
            Reply::Queue { .. } => Some(Self::Lent),
            _ => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When to die: the `nth` time that a point is reached. `POINT[:N]` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DieAt {
    /// The point.
    pub point: Point,
    /// How often it is to be reached.
    pub nth: NonZeroU32,
}

impl fmt::Display for DieAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.nth)
    }
}

/// A text that is no [`DieAt`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not POINT or POINT:N; the points are {points}", points = names())]
pub struct NoSuchPoint(String);

impl FromStr for DieAt {
    type Err = NoSuchPoint;

    fn from_str(text: &str) -> Result<Self, NoSuchPoint> {
        let no = || NoSuchPoint(text.into());
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().map_err(|_not_one| no())?),
            None => (text, NonZeroU32::MIN),
        };
        let point = Point::ALL.iter().find(|point| point.as_str() == name);
        let point = *point.ok_or_else(no)?;
        Ok(Self { point, nth })
    }
}

fn names() -> String {
    let names: Vec<_> = Point::ALL.iter().map(|point| point.as_str()).collect();
    names.join(", ")
}

/// Where this agent is to die, if anywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Option<Arc<Fault>>);

#[derive(Debug)]
struct Fault {
    point: Point,
    left: AtomicU32,
}

impl Faults {
    pub(crate) fn new(die_at: Option<DieAt>) -> Self {
        Self(die_at.map(|DieAt { point, nth }| {
            Arc::new(Fault {
                point,
                left: AtomicU32::new(nth.get()),
            })
        }))
    }

    /// Says that a point has been reached; does not return if it is the one to die at.
    pub(crate) fn reach(&self, point: Point) {
        if let Some(fault) = self.0.as_ref().filter(|fault| fault.point == point)
            && fault.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            die();
        }
    }
}

/// Ends the process as SIGKILL does: nothing is flushed, closed or told in an orderly way.
fn die() -> ! {
    loop {
        match kill_process(getpid(), Signal::KILL) {
            // Only the first process of a PID namespace survives it, and may not go on either.
            Ok(()) | Err(_) => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_found_by_its_name() {
        for point in Point::ALL {
            let die_at: DieAt = point.as_str().parse().unwrap();
            assert_eq!((die_at.point, die_at.nth.get()), (*point, 1));
            let die_at: DieAt = format!("{point}:7").parse().unwrap();
            assert_eq!((die_at.point, die_at.nth.get()), (*point, 7));
            assert_eq!(die_at.to_string().parse::<DieAt>().unwrap(), die_at);
        }
        for bad in ["", "nowhere", "drained:0", "drained:x", "drained:1:1"] {
            let error = bad.parse::<DieAt>().unwrap_err();
            assert!(error.to_string().contains("before-publish"), "{error}");
        }
    }

    #[test]
    fn other_points_are_passed() {
        let faults = Faults::new(Some("drained:2".parse().unwrap()));
        faults.reach(Point::Drained);
        for point in Point::ALL.iter().filter(|point| **point != Point::Drained) {
            faults.reach(*point);
        }
        Faults::default().reach(Point::Drained);
    }
}
