//! The words that all crates share: what a name, an endpoint, a slot, a generation's number and an
//! epoch are. Each has one meaning, and is defined here only.

#![forbid(unsafe_code)]

mod endpoint;
mod name;
mod numbers;

pub use endpoint::{Endpoint, InvalidEndpoint, Protocol};
pub use name::{InvalidName, Name};
pub use numbers::{Cookie, EndpointId, Epoch, GenerationId, RequestId, Slot};
