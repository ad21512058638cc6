//! HTTP/1.1 with hyper: answers every request, and asks clients to reconnect when it drains.
//!
//! `cargo run -p synflip --features tokio --example http -- 127.0.0.1:8080`

use std::{error::Error, io, pin::pin, sync::atomic};

use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use synflip::Phase;
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8080").parse()?;

    let server = synflip::Server::builder("web").listen(address, 1).start()?;
    let leaving = watch::Sender::new(false);
    let mut loops = JoinSet::new();
    for listener in server.listeners() {
        loops.spawn(serve(listener.into_tokio()?, leaving.subscribe()));
    }
    let mut events = server.events().into_tokio();
    tokio::spawn(async move {
        while let Some(phase) = events.next().await {
            // Not for good: after a rollback this generation works again.
            leaving.send_replace(!matches!(phase, Phase::Ready | Phase::Working));
        }
        leaving.closed().await; // the last value stays readable
    });
    server.ready()?; // last: from here on the generation may be flipped to

    while let Some(end) = loops.join_next().await {
        end??;
    }
    server.closed().await;
    Ok(())
}

async fn serve(
    listener: synflip::tokio::Listener,
    leaving: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    // While it drains, connections that were half-open or queued still come.
    while let Some((stream, _)) = listener.accept().await? {
        connections.spawn(connection(stream, leaving.clone()));
        while connections.try_join_next().is_some() {}
    }
    drop(listener); // it can be closed while the last requests are served
    connections.join_all().await;
    Ok(())
}

async fn connection(stream: TcpStream, leaving: watch::Receiver<bool>) {
    let answered = atomic::AtomicBool::new(false);
    let service = service_fn(async |_| {
        let mut response = Response::new("hello\n".to_owned());
        if *leaving.borrow() {
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        answered.store(true, atomic::Ordering::Relaxed);
        Ok::<_, hyper::Error>(response)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()); // a client that never sends its request is not waited for
    let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut told = leaving.clone();
    let ended = tokio::select! {
        ended = http.as_mut() => Some(ended.is_ok()),
        () = async { drop(told.wait_for(|leaving| *leaving).await) } => None,
    };
    // A client that is gone is no reason to stop: errors are ignored here.
    if ended.is_none() {
        // Not before the first answer: hyper would close without reading the request.
        if answered.load(atomic::Ordering::Relaxed) {
            http.as_mut().graceful_shutdown();
        }
        drop(http.await);
    }
}
