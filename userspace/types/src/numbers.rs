//! Numbers that must not be mistaken for each other.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($number:ty);)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

numbers! {
    /// Index of a listener in a service's socket array; its own for as long as it is registered.
    Slot(u32);
    /// Index of an endpoint within its service.
    EndpointId(u32);
    /// A generation's number within its service, from 1; later ones have larger numbers.
    GenerationId(u32);
    /// A socket's cookie (`SO_COOKIE`), which no other socket of this boot ever gets.
    Cookie(u64);
    /// How many flips of a service have committed.
    Epoch(u64);
    /// Which request of one connection an answer belongs to; its peer chooses it.
    RequestId(u64);
}
