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
use synflip_plan::EffectKind;
use synflip_wire::Reply;

/// A point in the agent's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A service's pins have been opened after a restart.
    Recovering,
    /// A service has been taken up after a restart; nothing has been done for it.
    Restored,
    /// The listeners of a registration have come and passed inspection; nothing is decided.
    ListenersTaken,
    /// A new slot table is filled; its slots have not been verified.
    TableFilled,
    /// Its slots are verified; the kernel still follows the old one.
    TableVerified,
    /// An effect has been decided on, and those before it are done.
    Before(EffectKind),
    /// It is done; a message has been written to the peer.
    After(EffectKind),
}

impl Point {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        // That one changes nothing outside the agent.
        let kinds = EffectKind::ALL
            .iter()
            .filter(|kind| **kind != EffectKind::Wake);
        [
            Self::Recovering,
            Self::Restored,
            Self::ListenersTaken,
            Self::TableFilled,
            Self::TableVerified,
        ]
        .into_iter()
        .chain(kinds.flat_map(|kind| [Self::Before(*kind), Self::After(*kind)]))
    }

    /// The point that has been reached when a message has been written to a peer.
    pub(crate) const fn sent(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Registered { .. } | Reply::Committed(_) | Reply::Drained(_) | Reply::Done => {
                Some(Self::After(EffectKind::Answer))
            }
            Reply::Event(_) => Some(Self::After(EffectKind::Tell)),
            Reply::Queue { .. } => Some(Self::After(EffectKind::Lend)),
            _ => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Recovering => "recovering".into(),
            Self::Restored => "restored".into(),
            Self::ListenersTaken => "listeners-taken".into(),
            Self::TableFilled => "table-filled".into(),
            Self::TableVerified => "table-verified".into(),
            Self::Before(kind) => format!("before-{}", kind.as_str()),
            Self::After(kind) => format!("after-{}", kind.as_str()),
        };
        f.pad(&name)
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
        let point = Point::all().find(|point| point.to_string() == name);
        let point = point.ok_or_else(no)?;
        Ok(Self { point, nth })
    }
}

fn names() -> String {
    let names: Vec<_> = Point::all().map(|point| point.to_string()).collect();
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
    ///
    /// The log at level `trace` has the points in the order in which they are reached.
    pub(crate) fn reach(&self, point: Point) {
        tracing::trace!("reached {point}");
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
        for point in Point::all() {
            let die_at: DieAt = point.to_string().parse().unwrap();
            assert_eq!((die_at.point, die_at.nth.get()), (point, 1));
            let die_at: DieAt = format!("{point}:7").parse().unwrap();
            assert_eq!((die_at.point, die_at.nth.get()), (point, 7));
            assert_eq!(die_at.to_string().parse::<DieAt>().unwrap(), die_at);
        }
        for bad in [
            "",
            "nowhere",
            "after-read:0",
            "after-read:x",
            "after-read:1:1",
            "before-wake",
        ] {
            let error = bad.parse::<DieAt>().unwrap_err();
            assert!(error.to_string().contains("before-publish"), "{error}");
        }
    }

    #[test]
    fn other_points_are_passed() {
        let point = Point::After(EffectKind::Read);
        let faults = Faults::new(Some("after-read:2".parse().unwrap()));
        faults.reach(point);
        for other in Point::all().filter(|other| *other != point) {
            faults.reach(other);
        }
        Faults::default().reach(point);
    }
}
