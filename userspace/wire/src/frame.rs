//! Where a message begins and ends, and which descriptors are its own.
//!
//! Header, little-endian: length of the document (u32), version of this format (u16), number of
//! descriptors attached (u16). The descriptors travel with the frame's first byte; a stream
//! socket may deliver them together with the end of the frame before, never later than the frame
//! itself (`unix_stream_read_generic` stops after a buffer that has some), so they are matched
//! by order.

use std::{collections::VecDeque, os::fd::OwnedFd};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{MAX_FDS, MAX_REPLY, MAX_REQUEST, WireError};

/// Bytes before the document.
pub const HEADER: usize = 8;

/// The version in the headers of all frames but the refusals before the hello.
pub const FORMAT: u16 = 2;

/// The version in the headers of a release that has no hello.
pub const FORMAT_BEFORE_HELLO: u16 = 1;

/// Which version is in a frame's header; all else in it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`FORMAT`].
    Current,
    /// [`FORMAT_BEFORE_HELLO`]: releases that have no hello send it, and an agent sends it to whom
    /// it refuses before the hello, since every release reads it.
    BeforeHello,
}

impl Format {
    const fn version(self) -> u16 {
        match self {
            Self::Current => FORMAT,
            Self::BeforeHello => FORMAT_BEFORE_HELLO,
        }
    }
}

/// A frame taken off the stream.
#[derive(Debug)]
pub struct Frame {
    /// The version in its header.
    pub format: Format,
    document: Bytes,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// Reads the document.
    ///
    /// # Errors
    /// [`WireError::Malformed`] if it is not a `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, WireError> {
        let malformed = |source| WireError::Malformed { id: None, source };
        serde_json::from_slice(&self.document).map_err(malformed)
    }
}

/// Encodes a message that carries `fds` descriptors.
///
/// # Errors
/// [`WireError::TooLarge`] or [`WireError::Descriptors`] if the other end would refuse it.
pub fn encode<T: Serialize>(
    format: Format,
    message: &T,
    fds: usize,
    max: usize,
) -> Result<Bytes, WireError> {
    let malformed = |source| WireError::Malformed { id: None, source };
    let document = serde_json::to_vec(message).map_err(malformed)?;
    let length = document.len();
    let too_large = WireError::TooLarge { length, max };
    let announced = match (u32::try_from(length), u16::try_from(fds)) {
        (Ok(length), Ok(fds)) if length as usize <= max && fds as usize <= MAX_FDS => (length, fds),
        (_, Ok(fds)) if fds as usize <= MAX_FDS => return Err(too_large),
        _ => {
            return Err(WireError::Descriptors {
                fds,
                announced: fds,
            });
        }
    };
    let mut frame = BytesMut::with_capacity(HEADER + length);
    frame.put_u32_le(announced.0);
    frame.put_u16_le(format.version());
    frame.put_u16_le(announced.1);
    frame.extend_from_slice(&document);
    Ok(frame.freeze())
}

/// Collects what comes off a stream and cuts it into frames.
#[derive(Debug)]
pub struct Frames {
    bytes: BytesMut,
    fds: VecDeque<OwnedFd>,
    max: usize,
    /// Whether frames of [`Format::BeforeHello`] may come.
    before_hello: bool,
}

impl Frames {
    /// A collector of requests.
    pub fn of_requests() -> Self {
        Self::new(MAX_REQUEST, false)
    }

    /// A collector of replies, among them the refusals of agents that have no hello.
    pub fn of_replies() -> Self {
        Self::new(MAX_REPLY, true)
    }

    fn new(max: usize, before_hello: bool) -> Self {
        Self {
            bytes: BytesMut::new(),
            fds: VecDeque::new(),
            max,
            before_hello,
        }
    }

    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
    }

    /// Whether part of a frame is there and the rest is not.
    pub fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The next frame; `None` until one is complete.
    ///
    /// # Errors
    /// As soon as a header shows that the frame will be refused. The stream cannot be used after
    /// that: there is no telling where the next frame begins. No descriptor is closed by it: that
    /// is done where the collector is dropped.
    pub fn take(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(mut header) = self.bytes.get(..HEADER) else {
            return self.no_stray_descriptors(MAX_FDS).map(|()| None);
        };
        let length = header.get_u32_le() as usize;
        let version = header.get_u16_le();
        let announced = usize::from(header.get_u16_le());
        let format = match version {
            FORMAT => Format::Current,
            FORMAT_BEFORE_HELLO if self.before_hello => Format::BeforeHello,
            theirs => return Err(WireError::Format { theirs }),
        };
        if length > self.max {
            return Err(WireError::TooLarge {
                length,
                max: self.max,
            });
        }
        if announced > MAX_FDS {
            return Err(WireError::Descriptors {
                fds: self.fds.len(),
                announced,
            });
        }
        if self.bytes.len() < HEADER + length {
            // Those of the next frame may have come too, glued to this one's end.
            return self
                .no_stray_descriptors(announced + MAX_FDS)
                .map(|()| None);
        }
        if self.fds.len() < announced {
            return Err(WireError::Descriptors {
                fds: self.fds.len(),
                announced,
            });
        }
        if self.bytes.len() == HEADER + length {
            self.no_stray_descriptors(announced)?;
        }
        self.bytes.advance(HEADER);
        let document = self.bytes.split_to(length).freeze();
        let fds = self.fds.drain(..announced).collect();
        Ok(Some(Frame {
            format,
            document,
            fds,
        }))
    }

    fn no_stray_descriptors(&self, allowed: usize) -> Result<(), WireError> {
        let fds = self.fds.len();
        if fds > allowed {
            Err(WireError::Descriptors {
                fds,
                announced: allowed,
            })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn frame(document: &str, fds: u16) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(u32::try_from(document.len()).unwrap());
        bytes.put_u16_le(FORMAT);
        bytes.put_u16_le(fds);
        bytes.extend_from_slice(document.as_bytes());
        bytes.to_vec()
    }

    #[test]
    fn descriptors_go_to_the_frame_that_announced_them() {
        let mut frames = Frames::new(100, false);
        let mut both = frame("1", 0);
        both.extend(frame("2", 2));
        frames.push(&both, vec![null(), null()]);
        let first = frames.take().unwrap().unwrap();
        assert_eq!((first.decode::<u8>().unwrap(), first.fds.len()), (1, 0));
        let second = frames.take().unwrap().unwrap();
        assert_eq!((second.decode::<u8>().unwrap(), second.fds.len()), (2, 2));
        assert!(frames.take().unwrap().is_none());
    }

    #[test]
    fn unannounced_descriptors_end_the_conversation() {
        let mut frames = Frames::new(100, false);
        frames.push(&frame("1", 0), vec![null()]);
        assert!(matches!(frames.take(), Err(WireError::Descriptors { .. })));
    }

    #[test]
    fn missing_descriptors_end_the_conversation() {
        let mut frames = Frames::new(100, false);
        frames.push(&frame("1", 1), vec![]);
        assert!(matches!(frames.take(), Err(WireError::Descriptors { .. })));
    }

    #[test]
    fn a_long_frame_is_refused_from_its_header() {
        let mut frames = Frames::new(100, false);
        frames.push(&frame(&"x".repeat(101), 0)[..HEADER], vec![]);
        assert!(matches!(
            frames.take(),
            Err(WireError::TooLarge {
                length: 101,
                max: 100
            })
        ));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = frame("1", 0);
        bytes[4] = 99;
        let mut frames = Frames::new(100, false);
        frames.push(&bytes, vec![]);
        assert!(matches!(
            frames.take(),
            Err(WireError::Format { theirs: 99 })
        ));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            documents in prop::collection::vec(any::<Vec<u8>>(), 1..8),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let mut stream = Vec::new();
            for document in &documents {
                stream.extend_from_slice(&encode(Format::Current, document, 0, 1 << 16).unwrap());
            }
            let mut frames = Frames::new(1 << 16, false);
            let mut got = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                frames.push(now, vec![]);
                rest = later;
                while let Some(frame) = frames.take().unwrap() {
                    got.push(frame.decode::<Vec<u8>>().unwrap());
                }
            }
            prop_assert_eq!(got, documents);
            prop_assert!(!frames.is_partial());
        }

        #[test]
        fn garbage_is_an_error_or_incomplete_never_a_panic(garbage in any::<Vec<u8>>()) {
            let mut frames = Frames::new(64, true);
            frames.push(&garbage, vec![]);
            while let Ok(Some(frame)) = frames.take() {
                drop(frame.decode::<crate::Request>());
            }
        }
    }
}
