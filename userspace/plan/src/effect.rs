//! What the machine wants done.

use synflip_types::{Cookie, Endpoint, EndpointId, Epoch, GenerationId, Name, Slot};

use crate::{Asker, Moment, PlanError, ProcessId, Table};

/// One thing to do. The agent does a service's effects one after the other, in the order in which
/// the machine has put them; a death may come between any two.
///
/// Each kind has exactly one place in the agent that carries it out. What its result decides comes
/// back as an [`crate::Input`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Put the listener with this cookie, whose descriptor has come with a registration, into this
    /// free slot of the socket array, and keep the descriptor: from here on the agent has custody.
    /// Reports [`crate::Input::NotFilled`] if the kernel refuses.
    Fill {
        /// The slot.
        slot: Slot,
        /// The listener.
        cookie: Cookie,
    },
    /// Keep the descriptor that has come for a listener which is in its slot already.
    Keep {
        /// The slot.
        slot: Slot,
        /// The listener.
        cookie: Cookie,
    },
    /// Take a duplicate of a listener from the process that holds it (`pidfd_getfd`, 5.6). Reports
    /// [`crate::Input::Fetched`] if that succeeds; if it does not, custody comes when the process
    /// registers again.
    Fetch {
        /// The slot.
        slot: Slot,
        /// A process that has it.
        from: ProcessId,
    },
    /// Note beside the slot what an agent that comes after has to know.
    Note {
        /// The slot.
        slot: Slot,
        /// What to note.
        note: Note,
    },
    /// Put the program on the reuseport group of each endpoint, by any listener in custody that
    /// listens: a group may be new, and any member may have replaced the program or taken it away
    /// (`SO_ATTACH_REUSEPORT_EBPF`, `SO_DETACH_REUSEPORT_BPF`: [`reuseport_attach_prog`] asks
    /// nobody and tells nobody). Reports [`crate::Input::Attached`].
    ///
    /// Not by one that does not listen: it would get a group of its own.
    ///
    /// [`reuseport_attach_prog`]: https://elixir.bootlin.com/linux/v6.12/source/net/core/sock_reuseport.c
    Attach {
        /// The registration that waits for it; none in the middle of a drain.
        join: Option<ProcessId>,
    },
    /// Wait for an RCU grace period: then every SYN that has chosen its listener before is a
    /// request on it, or gone. The choice and the request are in one read section, that of
    /// [`ip_local_deliver_finish`] (5.10 to 7.3; `ip6_input_finish` does the same).
    ///
    /// [`ip_local_deliver_finish`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/ip_input.c
    Barrier,
    /// Attach as [`Self::Attach`] does, then have the programs follow this table, and wait for a
    /// grace period ([`maybe_wait_bpf_programs`] does so within the update of the map). Reports
    /// [`crate::Input::Published`]: only then may anybody be told, and anything be closed that the
    /// table before named.
    ///
    /// [`maybe_wait_bpf_programs`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/syscall.c
    Publish {
        /// The table.
        table: Table,
        /// The listener that is meant by each of its slots.
        members: Vec<(Slot, Cookie)>,
    },
    /// Read what is pending on these listeners. Reports [`crate::Input::Readings`]; there is only
    /// one look at a time.
    Read {
        /// The listeners.
        slots: Vec<Slot>,
    },
    /// Give a listener the options that its generation's phase asks for. While it drains,
    /// `TCP_DEFER_ACCEPT` is off: it leaves a request half-open until the client sends data
    /// ([`tcp_check_req`]), for minutes, and the drain would wait for that.
    ///
    /// [`tcp_check_req`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_minisocks.c
    Prepare {
        /// The slot.
        slot: Slot,
        /// Whether new connections go elsewhere.
        draining: bool,
    },
    /// Give systemd a duplicate, which outlives this agent.
    Store {
        /// The slot.
        slot: Slot,
    },
    /// Lend a process a listener that nobody serves: it accepts what is queued, and says
    /// [`crate::Input::Emptied`].
    Lend {
        /// The slot.
        slot: Slot,
        /// Who is to accept.
        to: ProcessId,
    },
    /// Accept what is queued on a listener that nobody serves, and carry the bytes to the working
    /// generation, whose processes cannot be lent anything.
    Relay {
        /// The slot.
        slot: Slot,
    },
    /// Take a listener out of the socket array, with its note. No table mentions it, or nobody
    /// holds it.
    Clear {
        /// The slot.
        slot: Slot,
    },
    /// Close the agent's duplicate, and systemd's.
    Close {
        /// The slot that it was in.
        slot: Slot,
        /// How many connections were pending and are lost with it.
        lost: u32,
    },
    /// Answer a request.
    Answer {
        /// The request.
        to: Asker,
        /// The answer.
        answer: Answer,
    },
    /// Tell a server what has happened to its generation.
    Tell {
        /// One of its processes.
        to: ProcessId,
        /// What.
        event: Event,
    },
    /// Put into the log and the timeline what has happened.
    Record {
        /// To which generation; none if it is the service's as a whole.
        generation: Option<GenerationId>,
        /// What.
        what: Happened,
    },
    /// Come back with [`crate::Input::Time`] at this moment. It stands until it has come, or until
    /// another one takes its place: there is one alarm a service, and inputs do not clear it.
    Wake {
        /// When.
        at: Moment,
    },
    /// The service is over: remove its pins.
    End,
}

/// The kinds of [`Effect`], named as in `--die-at before-publish`.
macro_rules! kinds {
    ($($kind:ident = $name:literal,)*) => {
        /// What kind of thing an effect does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is the effect of that name")]
        pub enum EffectKind {
            $($kind,)*
        }

        impl EffectKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }

        impl Effect {
            /// What kind it is.
            pub const fn kind(&self) -> EffectKind {
                match self {
                    $(Self::$kind { .. } => EffectKind::$kind,)*
                }
            }
        }
    };
}

kinds! {
    Fill = "fill",
    Keep = "keep",
    Fetch = "fetch",
    Note = "note",
    Attach = "attach",
    Barrier = "barrier",
    Publish = "publish",
    Read = "read",
    Prepare = "prepare",
    Store = "store",
    Lend = "lend",
    Relay = "relay",
    Clear = "clear",
    Close = "close",
    Answer = "answer",
    Tell = "tell",
    Record = "record",
    Wake = "wake",
    End = "end",
}

/// What is noted of a listener, besides what never changes (owner and process), for the agent that
/// comes after.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// Its cookie.
    pub cookie: Cookie,
    /// The endpoint's number.
    pub endpoint: EndpointId,
    /// Where it listens.
    pub address: Endpoint,
    /// Its generation.
    pub generation: GenerationId,
    /// Its generation's name.
    pub name: Name,
    /// What it is for.
    pub state: NoteState,
    /// Whether a process that holds it has said that it is ready.
    pub ready: bool,
    /// Whether that process was adopted, and will not come back by itself.
    pub adopted: bool,
    /// A process that holds it; none if all have left.
    pub process: Option<ProcessId>,
}

/// What a noted listener is for.
///
/// [`Self::Kept`] and [`Self::Leaving`] are noted *before* the flip away is published, so that
/// they are not forgotten with an agent that dies right after it. Of the generation that the
/// published table makes work they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteState {
    /// Of a generation that works, or has not worked yet.
    Registered,
    /// Of a generation that this flip goes away from, kept for a rollback once it has drained.
    Kept(Epoch),
    /// Of a generation that this flip goes away from, to be closed once it has drained; epoch 0 if
    /// it was retired.
    Leaving(Epoch),
    /// Kept open only because it is the first of its hash bucket.
    Tombstone,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The listeners are registered for this generation.
    Registered {
        /// Its name.
        generation: Name,
    },
    /// Done.
    Done,
    /// Refused or failed; nothing has changed.
    Refused(PlanError),
    /// A flip has committed.
    Committed(Flip),
    /// The drain that is waited for goes on.
    Draining {
        /// The generation that drains.
        generation: GenerationId,
    },
    /// The wait is over.
    DrainOver {
        /// The generation that was drained; none if there was nobody to flip away from.
        generation: Option<GenerationId>,
        /// How it ended.
        end: DrainEnd,
    },
}

/// A change of the working generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flip {
    /// The generation that was working.
    pub from: Option<GenerationId>,
    /// The one that will be.
    pub to: GenerationId,
    /// The count of flips once this one has committed.
    pub epoch: Epoch,
    /// Listeners that new connections go to.
    pub listeners: usize,
}

/// How the wait for a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrainEnd {
    /// Nothing is pending; the old generation's servers are told to close.
    Drained,
    /// Nothing is pending; the old generation stays open for a rollback.
    Standby,
    /// Something is still pending. Nothing was closed, and the drain goes on.
    DeadlinePassed,
    /// The old generation works again, or was retired.
    Superseded,
}

/// What a server is told about its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// New connections come to it.
    Working,
    /// They go to another one now.
    Draining,
    /// Nothing is pending, nothing will come; it is kept for a rollback.
    Standby,
    /// Nothing is pending, nothing will come: close.
    Drained,
    /// Retired by an operator: close, whatever is pending.
    Retired,
}

/// What is put into the log and the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Happened {
    /// A process has registered listeners.
    Registered {
        /// How many.
        listeners: usize,
    },
    /// A process has come back to its listeners.
    Back {
        /// How many.
        listeners: usize,
    },
    /// It can be flipped to.
    Ready,
    /// A process has closed its listeners.
    Closed,
    /// A process has ended.
    Died,
    /// New connections go to it.
    Working {
        /// Since this flip.
        epoch: Epoch,
    },
    /// Its table has changed.
    Refreshed {
        /// Listeners that it works with now.
        listeners: usize,
    },
    /// New connections go to another one.
    Draining {
        /// Connections in accept queues at the commit.
        queued: u64,
        /// Handshakes that had begun.
        half_open: u64,
    },
    /// Connections have come to a listener that no table names: the program was replaced or taken
    /// away.
    ProgramGone,
    /// Nothing is pending on it.
    Drained {
        /// Whether it stays open for a rollback.
        kept: bool,
        /// Milliseconds after the commit, or after this agent took it up.
        after_ms: u64,
    },
    /// A peer no longer waits for the drain.
    DeadlinePassed {
        /// Connections in accept queues.
        queued: u64,
        /// Handshakes that have begun.
        half_open: u64,
    },
    /// An operator has retired it.
    Retired {
        /// Whatever was pending.
        force: bool,
    },
    /// A table was not published.
    NotPublished {
        /// Why.
        why: String,
    },
    /// Nobody accepts at an endpoint; its listeners are held open.
    Held {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Nobody came in time: its listeners are closed.
    GivenUp {
        /// The endpoint.
        endpoint: EndpointId,
    },
}
