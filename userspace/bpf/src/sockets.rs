//! Slot → listener.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::maps::MapData;

use crate::{BpfError, sys};

/// The `REUSEPORT_SOCKARRAY` of a service.
///
/// It, and not a `SOCKMAP`: the kernel takes a listener out when it closes or is shut down
/// ([`bpf_sk_reuseport_detach`], 5.10 to 7.3), where a `SOCKMAP` would go on selecting it; it costs
/// the socket nothing; it needs no more than CAP_BPF.
///
/// [`bpf_sk_reuseport_detach`]: https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/reuseport_array.c
#[derive(Debug)]
pub(crate) struct Sockets(pub(crate) MapData);

impl Sockets {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }

    /// Puts a listening socket into a slot.
    pub(crate) fn put(&self, slot: u32, listener: BorrowedFd<'_>) -> Result<(), BpfError> {
        let fd = u64::from(listener.as_raw_fd().cast_unsigned());
        sys::update(self.fd(), slot, fd).map_err(Self::failed("filling", slot))
    }

    /// The cookie of the listener in a slot, if there is one.
    pub(crate) fn cookie(&self, slot: u32) -> Result<Option<u64>, BpfError> {
        match sys::lookup(self.fd(), slot) {
            Ok(cookie) => Ok(Some(cookie)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::failed("reading", slot)(error)),
        }
    }

    /// Empties a slot; it may be empty already.
    pub(crate) fn clear(&self, slot: u32) -> Result<(), BpfError> {
        match sys::delete(self.fd(), slot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Self::failed("emptying", slot)(error))
            }
            _ => Ok(()),
        }
    }

    fn failed(op: &'static str, slot: u32) -> impl FnOnce(io::Error) -> BpfError {
        move |source| BpfError::Slot { op, slot, source }
    }
}
