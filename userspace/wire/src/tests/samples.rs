//! One of each message, with all that it can have; a new one does not build until it is here.

use crate::{
    AgentStatus, Certificate, Committed, Cookie, DrainEnd, DrainStep, Endpoint, EndpointStatus,
    Epoch, ErrorCode, Event, GenerationStatus, Hello, HoldStatus, ListenerDrain, ListenerSpec,
    ListenerStatus, Phase, Refusal, Register, RelayStatus, Reply, Request, ServiceStatus, Slot,
    Status, Target, TimelineEntry,
};

/// A list of variants, and a function that does not build without all of them.
macro_rules! all {
    ($function:ident, $enum:ident: $($variant:ident),* $(,)?) => {
        pub(super) fn $function() -> Vec<$enum> {
            let listed = |one: &$enum| match one {
                $($enum::$variant => (),)*
            };
            let all = vec![$($enum::$variant),*];
            all.iter().for_each(listed);
            all
        }
    };
}

all!(events, Event: Working, Draining, Leaving, Standby, Drained, Retired, Released, Unknown);
all!(phases, Phase: Registered, Ready, Working, Draining, Leaving, Standby, Drained, Unknown);
all!(ends, DrainEnd: Drained, Standby, DeadlinePassed, Superseded, Serving, Unknown);
all!(codes, ErrorCode:
    BadMessage, UnknownRequest, VersionMismatch, LimitReached, NotAllowed, BadListener,
    NoSuchService, AmbiguousService, NoSuchGeneration, NotReady, AlreadyWorking, FlipInProgress,
    EpochMoved, EndpointMissing, NoPrevious, StillWorking, StillDraining, GenerationClosed, Kernel,
    Unknown,
);

fn endpoint() -> Endpoint {
    "tcp/[fe80::1%2]:80".parse().unwrap()
}

pub(super) fn requests() -> Vec<Request> {
    let service = Some("web".parse().unwrap());
    let register = Register {
        service: "web".parse().unwrap(),
        generation: Some("v2".parse().unwrap()),
        listeners: vec![ListenerSpec {
            endpoint: endpoint(),
        }],
    };
    let flip = |to| Request::Flip {
        service: service.clone(),
        to,
        if_epoch: Some(Epoch(3)),
        drain_ms: 5000,
        keep: true,
        drop_endpoints: vec![endpoint()],
    };
    let all = vec![
        Request::Hello(Hello::new()),
        Request::Register(register.clone()),
        Request::Adopt(register),
        Request::Ready,
        Request::Closed,
        Request::Emptied {
            cookies: vec![Cookie(u64::MAX)],
        },
        Request::Serves { clients: 7 },
        Request::Status {
            service: service.clone(),
        },
        flip(Target::Generation("v2".parse().unwrap())),
        flip(Target::Latest),
        flip(Target::Previous),
        Request::Retire {
            service: service.clone(),
            generation: "v1".parse().unwrap(),
            force: true,
        },
        Request::Release {
            service: service.clone(),
        },
        Request::Unknown,
    ];
    for one in &all {
        match one {
            Request::Hello(_)
            | Request::Register(_)
            | Request::Adopt(_)
            | Request::Ready
            | Request::Closed
            | Request::Emptied { .. }
            | Request::Serves { .. }
            | Request::Status { .. }
            | Request::Flip { .. }
            | Request::Retire { .. }
            | Request::Release { .. }
            | Request::Unknown => {}
        }
    }
    all
}

pub(super) fn replies() -> Vec<Reply> {
    let step = DrainStep {
        after_ms: 1,
        queued: 2,
        half_open: 3,
    };
    let committed = Committed {
        service: "web".parse().unwrap(),
        from: Some("v1".parse().unwrap()),
        to: "v2".parse().unwrap(),
        epoch: Epoch(2),
        listeners: 4,
        commit_ms: 8.25,
        committed_at_ms: 5,
        lacks: vec![endpoint()],
    };
    let mut all = vec![
        Reply::Hello(Hello::new().welcome().unwrap()),
        Reply::Registered {
            service: "web".parse().unwrap(),
            generation: "v2".parse().unwrap(),
        },
        Reply::Done,
        Reply::Status(status()),
        Reply::Committed(committed.clone()),
        Reply::Draining(step),
        Reply::Queue {
            endpoint: endpoint(),
            cookie: Cookie(u64::MAX),
        },
        Reply::Unknown,
    ];
    all.extend(
        codes()
            .into_iter()
            .map(|code| Reply::Refused(Refusal::new(code, "no"))),
    );
    all.extend(events().into_iter().map(Reply::Event));
    all.extend(ends().into_iter().map(|end| {
        Reply::Drained(Certificate {
            flip: committed.clone(),
            end,
            drained_after_ms: Some(6),
            listeners: vec![ListenerDrain {
                slot: Slot(7),
                endpoint: endpoint(),
                steps: vec![step],
                empty_after_ms: Some(8),
            }],
        })
    }));
    for one in &all {
        match one {
            Reply::Hello(_)
            | Reply::Registered { .. }
            | Reply::Done
            | Reply::Status(_)
            | Reply::Committed(_)
            | Reply::Draining(_)
            | Reply::Drained(_)
            | Reply::Refused(_)
            | Reply::Event(_)
            | Reply::Queue { .. }
            | Reply::Unknown => {}
        }
    }
    all
}

pub(super) fn status() -> Status {
    let listener = ListenerStatus {
        slot: Slot(1),
        endpoint: endpoint(),
        held_by: vec![2],
        custody: true,
        stuck: true,
        queued: Some(3),
        half_open: Some(4),
        selected: 5,
        retried: 6,
        migrated: 7,
    };
    let generation = |phase| GenerationStatus {
        name: "v2".parse().unwrap(),
        phase,
        accepting: Some(true),
        in_service: Some(1),
        pids: vec![2],
        listeners: vec![listener.clone()],
    };
    Status {
        agent: AgentStatus {
            version: "0.2.0".into(),
            pid: 1,
            started_at_ms: 2,
            kernel: "6.12".into(),
            migration: true,
        },
        services: vec![ServiceStatus {
            name: "web".parse().unwrap(),
            owner_uid: 1,
            epoch: Epoch(2),
            working: Some("v2".parse().unwrap()),
            previous: Some("v1".parse().unwrap()),
            endpoints: vec![EndpointStatus {
                endpoint: endpoint(),
                runs: 10,
                selected: 1,
                migrated: 2,
                no_table: 3,
                fell_back: 4,
                tombstones: 5,
                strangers: true,
            }],
            generations: phases().into_iter().map(generation).collect(),
            relayed: RelayStatus { open: 1, total: 2 },
            hold: Some(HoldStatus {
                since_ms: 1,
                ends_at_ms: 2,
            }),
            timeline: vec![TimelineEntry {
                at_ms: 1,
                generation: "v2".parse().unwrap(),
                what: "ready".into(),
            }],
        }],
    }
}
