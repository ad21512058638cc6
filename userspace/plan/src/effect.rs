//! What the machine wants done.

use synflip_types::{Cookie, GenerationId, Slot};

use crate::{Answer, Asker, Event, Happened, Moment, Note, ProcessId, Table};

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
    /// Connect to a listener that nobody accepts from, from the address that it has itself, and
    /// close the connection: it is in the accept queue until its process accepts again. No table
    /// decides about it (`ebpf/src/asked.rs`). Reports [`crate::Input::NotProbed`] if that fails.
    Probe {
        /// The slot.
        slot: Slot,
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
    /// The service is over: remove its pins. Of listeners that are in custody still, it has been
    /// given back to plain SO_REUSEPORT: take the program off their groups, and close the
    /// duplicates.
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
    Probe = "probe",
    Relay = "relay",
    Clear = "clear",
    Close = "close",
    Answer = "answer",
    Tell = "tell",
    Record = "record",
    Wake = "wake",
    End = "end",
}
