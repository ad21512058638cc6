//! One connection, from the client to the server and back.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::tally::Open;

/// How long the server may take to answer a SYN: longer than two retransmissions.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Connects `server` to the address that the client asked for, and copies both ways.
///
/// An orderly end (FIN) is passed on in its direction, and the other one goes on. At an error both
/// ends are reset: neither must take what it has for all that there is.
///
/// # Errors
/// What ended it before both ends were done.
pub(crate) async fn carry(client: OwnedFd, server: OwnedFd, open: &Open) -> io::Result<()> {
    let client: std::net::TcpStream = client.into();
    client.set_nonblocking(true)?;
    let mut client = Counted {
        stream: TcpStream::from_std(client)?,
        count: |bytes| open.to_server(bytes),
    };
    let stream = match connect(&client.stream, server).await {
        Ok(stream) => stream,
        Err(error) => {
            reset(&client.stream);
            return Err(error);
        }
    };
    let mut server = Counted {
        stream,
        count: |bytes| open.to_client(bytes),
    };
    let ended = copy_bidirectional(&mut client, &mut server).await;
    if ended.is_err() {
        reset(&client.stream);
        reset(&server.stream);
    }
    ended.map(drop)
}

async fn connect(client: &TcpStream, server: OwnedFd) -> io::Result<TcpStream> {
    let to = client.local_addr()?;
    let server: std::net::TcpStream = server.into();
    server.set_nonblocking(true)?;
    let connecting = TcpSocket::from_std_stream(server).connect(to);
    let connected = match timeout(CONNECTS_WITHIN, connecting).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    };
    connected.map_err(|error| io::Error::new(error.kind(), format!("connecting to {to}: {error}")))
}

/// Has the close that follows be a RST (`tcp_close` with SO_LINGER 0).
fn reset(stream: &TcpStream) {
    // One that has been reset already needs none.
    drop(stream.set_zero_linger());
}

/// A stream of which the bytes that are read are counted.
struct Counted<C> {
    stream: TcpStream,
    count: C,
}

impl<C: Fn(usize) + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            (self.count)(read);
        }
        polled
    }
}

impl<C: Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream as Std},
        rc::Rc,
        thread,
    };

    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;
    use crate::{Counts, tally::Tally};

    #[test]
    fn each_direction_ends_by_itself() {
        let client = |mut client: Std| {
            client.write_all(&[7; 5000]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!((answer.len(), answer.iter().max()), (500_000, Some(&7)));
        };
        let server = |mut server: Std| {
            let mut request = Vec::new();
            server.read_to_end(&mut request).unwrap();
            // Its client has said all, and is told all the same.
            server.write_all(&request.repeat(100)).unwrap();
        };
        let (ended, counts) = carried(client, Some(server));
        ended.unwrap();
        let expected = Counts {
            open: 0,
            total: 1,
            to_server: 5000,
            to_client: 500_000,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_reset_is_passed_on_to_the_client() {
        let server = |mut server: Std| {
            server.read_exact(&mut [0; 4]).unwrap();
            server.write_all(b"half an ans").unwrap();
            abort(&server);
        };
        let client = |mut client: Std| {
            client.write_all(b"half").unwrap();
            is_reset(&mut client);
        };
        carried(client, Some(server)).0.unwrap_err();
    }

    #[test]
    fn a_reset_is_passed_on_to_the_server() {
        let client = |mut client: Std| {
            client.write_all(b"half a requ").unwrap();
            client.read_exact(&mut [0; 4]).unwrap();
            abort(&client);
        };
        let server = |mut server: Std| {
            server.write_all(b"more").unwrap();
            is_reset(&mut server);
        };
        carried(client, Some(server)).0.unwrap_err();
    }

    #[test]
    fn a_client_whose_server_is_gone_is_reset() {
        let client = |mut client: Std| is_reset(&mut client);
        let (ended, counts) = carried(client, None::<fn(Std)>);
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("connecting to 127.0.0.1:"), "{error}");
        assert_eq!((counts.open, counts.total), (0, 1));
    }

    /// Carries one connection while client and server do their part; without a server nobody
    /// listens any more.
    fn carried<S: FnOnce(Std) + Send + 'static>(
        client: impl FnOnce(Std) + Send + 'static,
        server: Option<S>,
    ) -> (io::Result<()>, Counts) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Std::connect(listener.local_addr().unwrap()).unwrap();
        // As the agent does, which then hands both over.
        let (accepted, _) = listener.accept().unwrap();
        let beside = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let client = thread::spawn(|| client(connection));
        let server = server.map(|server| {
            thread::spawn(move || {
                let (connection, _) = listener.accept().unwrap();
                server(connection);
            })
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tally = Rc::new(Tally::new());
        let open = tally.begin(&"web".parse().unwrap());
        let ended = runtime.block_on(carry(accepted.into(), beside.into(), &open));
        client.join().unwrap();
        if let Some(server) = server {
            server.join().unwrap();
        }
        drop(open);
        (ended, tally.news(&mut BTreeMap::new())[0].1)
    }

    fn abort(stream: &Std) {
        SockRef::from(stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    fn is_reset(stream: &mut Std) {
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
