//! Accepting and answering.

use std::{
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
};

use synflip_bed::ledger::{Ledger, Note};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, watch},
};

use crate::listeners::Listener;

/// What the process has done.
#[derive(Debug, Default)]
pub(crate) struct Served {
    number: u32,
    /// What is accepted and not answered, if somebody wants to know.
    ledger: Option<Arc<Ledger>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) served: AtomicU64,
    /// Connections accepted and not closed.
    open: AtomicU64,
    closed: Notify,
}

impl Served {
    pub(crate) fn new(number: u32, ledger: Option<Arc<Ledger>>) -> Self {
        Self {
            number,
            ledger,
            ..Self::default()
        }
    }

    /// Waits until each connection has been closed.
    pub(crate) async fn all_closed(&self) {
        while self.open.load(Relaxed) > 0 {
            self.closed.notified().await;
        }
    }
}

/// Accepts until the listener ends, then closes it.
pub(crate) async fn serve(
    listener: Listener,
    served: &Arc<Served>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        let next = match &listener {
            // It ends by itself.
            Listener::Steered(_) => accept(&listener, served).await?,
            Listener::Plain(_) => tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => None,
                accepted = accept(&listener, served) => accepted?,
            },
        };
        let Some((stream, note)) = next else {
            return Ok(());
        };
        served.accepted.fetch_add(1, Relaxed);
        served.open.fetch_add(1, Relaxed);
        let served = Arc::clone(served);
        tokio::spawn(async move {
            if answer(stream, served.number).await.is_ok() {
                served.served.fetch_add(1, Relaxed);
            }
            drop(note);
            if served.open.fetch_sub(1, Relaxed) == 1 {
                served.closed.notify_one();
            }
        });
    }
}

/// Accepts one connection, and notes it in the ledger before anything else is done.
async fn accept(
    listener: &Listener,
    served: &Served,
) -> io::Result<Option<(TcpStream, Option<Note>)>> {
    let Some(ledger) = &served.ledger else {
        let accepted = listener.accept().await?;
        return Ok(accepted.map(|(stream, _)| (stream, None)));
    };
    let mut accepted = pin!(listener.accept());
    poll_fn(|context| {
        // The kernel gives a connection away only in here, and one at most.
        let (polled, note) = ledger.accepting(|| accepted.as_mut().poll(context), client);
        polled.map_ok(|accepted| accepted.map(|(stream, _)| (stream, note)))
    })
    .await
}

/// The client of a connection that has been accepted.
fn client(polled: &Poll<io::Result<Option<(TcpStream, SocketAddr)>>>) -> Option<SocketAddr> {
    match polled {
        Poll::Ready(Ok(Some((_, client)))) => Some(*client),
        _ => None,
    }
}

async fn answer(mut stream: TcpStream, number: u32) -> io::Result<()> {
    let mut message = [0; 16];
    stream.read_exact(&mut message[..8]).await?;
    message[8..12].copy_from_slice(&number.to_le_bytes());
    stream.write_all(&message).await
}
