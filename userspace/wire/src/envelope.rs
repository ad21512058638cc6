//! Which answer belongs to which request.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synflip_types::RequestId;

use crate::{
    MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, WireError,
    frame::{Format, Frame, encode},
};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What its answers have to name.
    pub id: RequestId,
    /// What it is called; of an unknown one, all that there is.
    pub name: String,
    /// What is asked.
    pub request: Request,
}

/// A message of the agent as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request that it answers; none of what the agent says unasked.
    pub id: Option<RequestId>,
    /// What it says.
    pub reply: Reply,
}

/// A document: an id, and a message beside it.
#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<RequestId>,
    #[serde(flatten)]
    message: &'a T,
}

/// What has to be known of a document before the rest of it.
#[derive(Deserialize)]
struct Head<'a> {
    id: Option<RequestId>,
    #[serde(borrow)]
    request: Option<Cow<'a, str>>,
}

impl Asked {
    /// Encodes a request that carries so many descriptors.
    ///
    /// # Errors
    /// Those of [`encode`].
    pub fn encode(id: RequestId, message: &Request, fds: usize) -> Result<Bytes, WireError> {
        let id = Some(id);
        encode(Format::Current, &Envelope { id, message }, fds, MAX_REQUEST)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`WireError::Malformed`], with the id if there is one. A request that this release does not
    /// know is no error: it is [`Request::Unknown`].
    pub fn read(frame: &Frame) -> Result<Self, WireError> {
        let Head { id, request } = frame.decode()?;
        let missing = |field| WireError::Malformed {
            id,
            source: serde::de::Error::missing_field(field),
        };
        let name = request.ok_or_else(|| missing("request"))?;
        let id = id.ok_or_else(|| missing("id"))?;
        let request = frame.decode().map_err(|error| error.of(id))?;
        // A refusal quotes it: keep what a peer can make it quote short.
        let name = name.chars().take(LONGEST_NAME).collect();
        Ok(Self { id, name, request })
    }
}

impl Answer {
    /// Encodes a message of the agent that carries so many descriptors.
    ///
    /// # Errors
    /// Those of [`encode`].
    pub fn encode(id: Option<RequestId>, message: &Reply, fds: usize) -> Result<Bytes, WireError> {
        encode(Format::Current, &Envelope { id, message }, fds, MAX_REPLY)
    }

    /// Encodes a refusal to a peer that has not said hello: every release can read it.
    ///
    /// # Errors
    /// Those of [`encode`].
    pub fn encode_for_all(refusal: Refusal) -> Result<Bytes, WireError> {
        encode(Format::BeforeHello, &Reply::Refused(refusal), 0, MAX_REPLY)
    }

    /// Reads a message of the agent.
    ///
    /// # Errors
    /// [`WireError::Malformed`]. A reply that this release does not know is no error: it is
    /// [`Reply::Unknown`].
    pub fn read(frame: &Frame) -> Result<Self, WireError> {
        let Head { id, .. } = frame.decode()?;
        let reply = frame.decode().map_err(|error| match id {
            Some(id) => error.of(id),
            None => error,
        })?;
        Ok(Self { id, reply })
    }
}

/// The longest name of a request that is quoted, in characters.
const LONGEST_NAME: usize = 40;
