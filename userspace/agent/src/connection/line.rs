//! A connection as bytes and descriptors.

use std::{
    io, mem,
    os::fd::{AsFd as _, OwnedFd},
};

use synflip_wire::{
    Answer, Asked, Refusal, Reply, RequestId, WireError, frame::Frames, receive_into, send,
};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::UnixStream,
    time::{Instant, timeout_at},
};

use crate::{
    foreign::{Close, Foreign},
    limits,
    peers::Outgoing,
};

/// The peer's end of the conversation.
pub(super) struct Line {
    from: Foreign<Source>,
    buffer: Vec<u8>,
    /// Until it has said something, and while it is in the middle of saying something.
    deadline: Option<Instant>,
    /// Whether it has begun with a frame of this release's format. Until then, what it is told is
    /// in a format that every release reads.
    is_current: bool,
}

/// Where descriptors come from, and lie until somebody takes them.
struct Source {
    stream: UnixStream,
    frames: Frames,
}

impl Close for Source {}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        let frames = Frames::of_requests();
        Self {
            from: Source { stream, frames }.into(),
            buffer: vec![0; 16 << 10],
            deadline: Some(Instant::now() + limits::PATIENCE),
            is_current: false,
        }
    }

    /// Ends the connection, and returns when all is closed that has come through it.
    pub(super) async fn close(self) {
        self.from.close().await;
    }

    /// The next request; `None` if more of it has to come.
    ///
    /// Cancel safe: what was read is in `frames`.
    pub(super) async fn read(
        &mut self,
    ) -> Result<Option<(Asked, Foreign<Vec<OwnedFd>>)>, WireError> {
        if let Some(mut frame) = self.from.frames.take()? {
            let fds = Foreign::from(mem::take(&mut frame.fds));
            self.is_current = true;
            let asked = Asked::read(&frame)?;
            self.deadline = None;
            return Ok(Some((asked, fds)));
        }
        if self.from.frames.is_partial() {
            self.deadline
                .get_or_insert_with(|| Instant::now() + limits::PATIENCE);
        }
        let readable = self.from.stream.readable();
        let ready = match self.deadline {
            Some(deadline) => timeout_at(deadline, readable)
                .await
                .map_err(|_elapsed| WireError::TimedOut)?,
            None => readable.await,
        };
        let io = |source| WireError::Io {
            op: "reading from",
            source,
        };
        ready.map_err(io)?;
        let (from, buffer) = (&mut *self.from, &mut self.buffer);
        let mut fds = Vec::new();
        let read = || receive_into(&from.stream, buffer, &mut fds);
        let read = from.stream.try_io(Interest::READABLE, read);
        // Those of what is refused lie there with the others.
        from.frames
            .push(&buffer[..*read.as_ref().unwrap_or(&0)], fds);
        match read {
            Ok(0) => Err(WireError::Closed),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(WireError::Closed),
            Err(source) => Err(io(source)),
        }
    }

    pub(super) async fn write(&self, outgoing: &Outgoing) -> Result<(), WireError> {
        let frame = Answer::encode(outgoing.id, &outgoing.reply, outgoing.fds.len())?;
        let fds: Vec<_> = outgoing.fds.iter().map(OwnedFd::as_fd).collect();
        let deadline = Instant::now() + limits::PATIENCE;
        let failed = |source| WireError::Io {
            op: "writing to",
            source,
        };
        let (mut rest, mut fds) = (frame.as_ref(), fds.as_slice());
        while !rest.is_empty() {
            let writable = timeout_at(deadline, self.from.stream.writable()).await;
            writable
                .map_err(|_elapsed| WireError::TimedOut)?
                .map_err(failed)?;
            let stream = &self.from.stream;
            match stream.try_io(Interest::WRITABLE, || send(stream, rest, fds)) {
                // The descriptors go with the first byte.
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }

    /// Says a last word before the connection ends; a peer that does not read it misses it.
    pub(super) async fn last_word(&mut self, id: Option<RequestId>, refusal: Refusal) {
        let frame = if self.is_current {
            Answer::encode(id, &Reply::Refused(refusal), 0)
        } else {
            Answer::encode_for_all(refusal)
        };
        if let Ok(frame) = frame {
            // It fits the socket's buffer, or the peer is not reading.
            drop(self.from.stream.try_write(frame.as_ref()));
            drop(self.from.stream.shutdown().await);
        }
    }
}
