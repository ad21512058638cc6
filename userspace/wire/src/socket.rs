//! Bytes and descriptors on a unix stream socket.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::MAX_FDS;

/// What one read brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes read; 0 at the end of the stream.
    pub bytes: usize,
    /// Descriptors that came with them, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Writes bytes, with the descriptors attached to the first of them; returns how many bytes went.
///
/// # Errors
/// Those of `sendmsg(2)`; a closed peer is `BrokenPipe`, not a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Reads bytes and the descriptors attached to them.
///
/// # Errors
/// Those of [`receive_into`]; the descriptors are closed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut fds = Vec::new();
    let bytes = receive_into(socket, buffer, &mut fds)?;
    Ok(Received { bytes, fds })
}

/// Reads bytes, and adds the descriptors attached to them, also where it fails: to close what
/// others have sent can take as long as they like, so the caller says where.
///
/// # Errors
/// Those of `recvmsg(2)`, and `InvalidData` if more than [`MAX_FDS`] descriptors came, or more than
/// this process may open (the kernel has closed those).
pub fn receive_into(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let before = fds.len();
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
            fds.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() - before > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more descriptors came than one message may carry, or this process may open (ulimit -n)",
        ));
    }
    Ok(message.bytes)
}

/// The most descriptors that one message can have ([`SCM_MAX_FD`], 5.10 to 7.3). There is room for
/// all of them: those that do not fit are closed by the kernel in the middle of `recvmsg`
/// (`scm_detach_fds`), whoever calls it and however long it takes.
///
/// [`SCM_MAX_FD`]: https://elixir.bootlin.com/linux/v6.12/source/include/net/scm.h
const SCM_MAX_FD: usize = 253;
