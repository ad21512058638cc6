//! One end of the line between an agent and the process: messages with descriptors.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{io::Interest, net::UnixStream};

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// One end of a line.
///
/// The socket is one of SOCK_SEQPACKET: a message arrives as a whole with its descriptors, or not
/// at all, whenever the sender dies. Once sent, it is in the receiver's queue and needs the sender
/// no more. tokio's and std's types for streams do for it; nothing here reads it as a stream.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// Takes a connected socket of the type that [`Self::socket`] makes.
    pub(crate) const fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// A socket to bind or to connect.
    ///
    /// # Errors
    /// Those of `socket(2)`.
    pub fn socket() -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Connects to a process, without waiting for it to notice. Needs a runtime.
    ///
    /// # Errors
    /// Those of `connect(2)`: `NotFound` or `ConnectionRefused` if there is no such process, and
    /// `PermissionDenied` if the socket was made by another user.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Self::socket()?;
        socket.connect(&SockAddr::unix(path)?)?;
        let line = Self(UnixStream::from_std(OwnedFd::from(socket).into())?);
        // Of a listening socket the kernel tells who made it listen (`unix_listen`): the agent
        // that has started the process.
        let (maker, own) = (line.0.peer_cred()?.uid(), rustix::process::geteuid());
        if maker != own.as_raw() {
            let text = format!("uid {maker} has made it, not uid {}", own.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(line)
    }

    /// Sends a message. Never blocks.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`; nothing has been sent then. `WouldBlock` while the receiver's queue
    /// is full.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long"));
        }
        synflip_wire::send(&self.0, &text, fds).map(drop)
    }

    /// The next message and its descriptors; `None` when the other end has gone and all that it
    /// sent has been read. Cancel safe.
    ///
    /// # Errors
    /// Those of [`Self::receive_into`]; the descriptors are closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut fds = Vec::new();
        let message = self.receive_into(&mut fds).await?;
        Ok(message.map(|message| (message, fds)))
    }

    /// The next message; its descriptors are added to `fds`, also where it fails: to close them can
    /// take as long as the other end likes, so the caller says where. Cancel safe.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`, and `InvalidData` for what is no message: the next one may be.
    pub async fn receive_into<T: DeserializeOwned>(
        &self,
        fds: &mut Vec<OwnedFd>,
    ) -> io::Result<Option<T>> {
        loop {
            self.0.readable().await?;
            let mut buffer = vec![0; MAX_MESSAGE];
            let read = || synflip_wire::receive_into(&self.0, &mut buffer, fds);
            match self.0.try_io(Interest::READABLE, read) {
                Ok(0) => return Ok(None),
                Ok(bytes) => {
                    let message = serde_json::from_slice(&buffer[..bytes])
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    return Ok(Some(message));
                }
                // An end that is closed before it has read everything says so once, and before
                // what it sent itself (`unix_release_sock`, `__skb_try_recv_datagram`): that is
                // still there to be read.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a message that is not long can be sent at once.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn has_room(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now))?;
        Ok(fds[0].revents() == PollFlags::OUT)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    fn pair() -> (Line, Line) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let line = |socket: Socket| {
            socket.set_nonblocking(true).unwrap();
            Line::new(UnixStream::from_std(OwnedFd::from(socket).into()).unwrap())
        };
        (line(a), line(b))
    }

    #[tokio::test]
    async fn what_was_sent_outlives_the_sender_that_has_not_read_everything() {
        let (agent, process) = pair();
        let null = File::open("/dev/null").unwrap();
        for number in 0..3 {
            agent.send(&number, &[null.as_fd(), null.as_fd()]).unwrap();
        }
        // It dies with this unread.
        process.send(&"a report", &[]).unwrap();
        drop(agent);
        for number in 0..3 {
            let (message, fds) = process.receive::<u32>().await.unwrap().unwrap();
            assert_eq!((message, fds.len()), (number, 2));
        }
        assert!(process.receive::<u32>().await.unwrap().is_none());
        let gone = process.send(&0, &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
        assert!(!process.has_room().unwrap());
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_read_blocks_nobody() {
        let (agent, process) = pair();
        let mut sent = 0u32;
        while agent.has_room().unwrap() {
            agent.send(&sent, &[]).unwrap();
            sent += 1;
        }
        assert!(sent > 16, "{sent}");
        for number in 0..sent {
            assert_eq!(process.receive::<u32>().await.unwrap().unwrap().0, number);
        }
        assert!(agent.has_room().unwrap());
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_not_the_end() {
        let (agent, process) = pair();
        synflip_wire::send(&agent.0, b"{", &[]).unwrap();
        agent.send(&7, &[]).unwrap();
        let error = process.receive::<u32>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert_eq!(process.receive::<u32>().await.unwrap().unwrap().0, 7);
    }

    #[tokio::test]
    async fn nobody_is_there_to_connect_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay");
        let none = Line::connect(&path).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        let socket = Line::socket().unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        drop(socket);
        let dead = Line::connect(&path).unwrap_err();
        assert_eq!(dead.kind(), io::ErrorKind::ConnectionRefused);
    }
}
