//! One task per connection: sends back what it reads.
//!
//! `cargo run -p synflip --features tokio --example tokio -- 127.0.0.1:8080`

use std::error::Error;

use tokio::{io, net::TcpStream, task::JoinSet};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8080").parse()?;

    let server = synflip::Server::builder("echo")
        .listen(address, 1)
        .start()?;
    let mut loops = JoinSet::new();
    for listener in server.listeners() {
        loops.spawn(serve(listener.into_tokio()?));
    }
    // Last: from here on the generation may be flipped to.
    server.ready()?;

    while let Some(end) = loops.join_next().await {
        end??;
    }
    // Each listener has been dropped; now the agent knows that it is closed.
    server.closed().await;
    Ok(())
}

async fn serve(listener: synflip::tokio::Listener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    // Ends when the generation is drained, not when it begins to drain.
    while let Some((stream, _)) = listener.accept().await? {
        connections.spawn(echo(stream));
        // Forget those that are done.
        while connections.try_join_next().is_some() {}
    }
    // The listener can be closed while connections are still served.
    drop(listener);
    connections.join_all().await;
    Ok(())
}

async fn echo(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    // A client that is gone is no reason to stop serving the others.
    drop(io::copy(&mut read, &mut write).await);
}
