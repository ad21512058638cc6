//! One thread per listener: answers each connection with one line.
//!
//! `cargo run -p synflip --example threads -- 127.0.0.1:8080`

use std::{error::Error, io::Write as _, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8080").parse()?;

    let server = synflip::Server::builder("web").listen(address, 4).start()?;
    let threads: Vec<_> = server
        .listeners()
        .into_iter()
        .map(|listener| {
            thread::spawn(move || {
                // Ends when the generation is drained, not when it begins to drain.
                for connection in listener.incoming() {
                    let (mut stream, peer) = connection?;
                    // A client that is gone is no reason to stop serving the others.
                    drop(writeln!(stream, "hello {peer}"));
                }
                Ok::<(), std::io::Error>(())
                // The listener is dropped here: it may be closed now.
            })
        })
        .collect();

    // Last: from here on the generation may be flipped to.
    server.ready()?;

    for thread in threads {
        thread.join().expect("an accept loop panicked")?;
    }
    // The agent knows that the listeners are closed.
    server.join();
    Ok(())
}
