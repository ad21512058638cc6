//! What a service refuses, and why.

use std::net::SocketAddr;

use synflip_abi::{MAX_ENDPOINTS, MAX_SLOTS};

use crate::Phase;

/// A refusal. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No generation has that name.
    #[error("there is no generation {name:?}; there are: {known}")]
    NoSuchGeneration {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A service can be released only where nobody but the working generation is.
    #[error(
        "{names} is there besides the working generation; retire it first, or wait until it has drained and closed"
    )]
    OthersThere {
        /// The others.
        names: String,
    },
    /// A service can be released only where all its listeners are accepted from.
    #[error(
        "a process of the working generation has ended and its listeners are held open, or it is not ready; \
         look at the status and try again"
    )]
    NotAllAccept,
    /// Nobody works.
    #[error("no generation works")]
    NobodyWorks,
    /// No generation that is not working is ready.
    #[error("no generation is ready to be flipped to; a server says so with ready()")]
    NoneReady,
    /// The generation cannot be flipped to.
    #[error("{name} cannot take connections: {why}")]
    NotReady {
        /// The generation.
        name: String,
        /// Its state, in words.
        why: &'static str,
    },
    /// The generation is working already.
    #[error("{name} is the working generation already")]
    AlreadyWorking {
        /// The generation.
        name: String,
    },
    /// A change is being committed.
    #[error("another flip of this service is being committed; look at the status and try again")]
    FlipInProgress,
    /// A flip has committed since the caller looked.
    #[error(
        "another flip has committed since (epoch {now}, not {seen}); look at the status and try again"
    )]
    EpochMoved {
        /// The epoch that the caller saw.
        seen: u64,
        /// The epoch now.
        now: u64,
    },
    /// The new generation would leave an endpoint without a listener.
    #[error(
        "{name} has no listener on {address}, which the working generation serves; start one there first, \
         or give it up (--drop-endpoint {address})"
    )]
    EndpointMissing {
        /// The generation.
        name: String,
        /// The endpoint.
        address: SocketAddr,
    },
    /// An endpoint that is to be dropped has listeners of the generation.
    #[error("{name} has listeners on {address}: only an endpoint that it lacks can be dropped")]
    EndpointNotMissing {
        /// The generation.
        name: String,
        /// The endpoint.
        address: SocketAddr,
    },
    /// An endpoint that is to be dropped is not known.
    #[error("there is no endpoint {address} to drop: {known}")]
    NoSuchEndpoint {
        /// The endpoint.
        address: SocketAddr,
        /// Those that there are.
        known: String,
    },
    /// There is nothing to roll back to.
    #[error(
        "there is no generation to roll back to: none was working before, or it has closed or shut down its listeners (flip with --keep to be able to go back later; if it listens again, register it again)"
    )]
    NoPrevious,
    /// The working generation cannot be retired.
    #[error("{name} is the working generation; flip to another one first")]
    StillWorking {
        /// The generation.
        name: String,
    },
    /// Requests may be pending.
    #[error(
        "connections are pending on {name}; wait until it is drained, or use --force to lose them"
    )]
    StillDraining {
        /// The generation.
        name: String,
    },
    /// Nobody else accepts at one of its endpoints.
    #[error(
        "new connections to {address} go to {name}, because no other generation accepts there; \
         start one, or use --force to do without"
    )]
    StillServing {
        /// The generation.
        name: String,
        /// The endpoint.
        address: SocketAddr,
    },
    /// A generation that has been flipped away from cannot be joined.
    #[error("generation {name:?} is {phase:?} and can no longer be joined; choose a new name")]
    GenerationClosed {
        /// The generation.
        name: String,
        /// What it is doing.
        phase: Phase,
    },
    /// A process that lives serves the listener in another generation.
    #[error("{address}: this listener is registered already, for generation {generation}")]
    RegisteredAlready {
        /// Its address.
        address: SocketAddr,
        /// That generation.
        generation: String,
    },
    /// Listeners of two generations came together.
    #[error("{address}: this listener belongs to another generation than the one before it")]
    OfTwoGenerations {
        /// Its address.
        address: SocketAddr,
    },
    /// A process is told of one generation only.
    #[error(
        "this connection has registered listeners for generation {name} already; register those of \
         another one on a connection of their own"
    )]
    OneGeneration {
        /// The generation that it has.
        name: String,
    },
    /// A registration of the same process is being carried out.
    #[error("the registration before this one has not been answered yet; wait for it")]
    JoinInProgress,
    /// The process holds no listener.
    #[error("this connection has not registered any listener")]
    NotMember,
    /// Too many generations.
    #[error("{most} generations are registered; retire some")]
    TooManyGenerations {
        /// How many there may be.
        most: usize,
    },
    /// The kernel has refused something.
    #[error("{why}")]
    Kernel {
        /// What, and why.
        why: String,
    },
    /// The name has a meaning of its own.
    #[error("\"latest\" cannot be a generation's name: flip --to latest means the newest one")]
    ReservedName,
    /// Too many endpoints.
    #[error("a service has at most {MAX_ENDPOINTS} endpoints")]
    TooManyEndpoints,
    /// Too many listeners.
    #[error(
        "a service has at most {MAX_SLOTS} listeners, all generations together; {free} are free"
    )]
    TooManyListeners {
        /// Free slots.
        free: usize,
    },
}
