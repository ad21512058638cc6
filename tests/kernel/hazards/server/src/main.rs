//! A server that does not do all that the helper crate asks of it.
//!
//! Arguments, answers and what it prints are those of `synflip-server`, as far as it has them. It
//! is built against the helper of earlier commits too (`cargo xtask test hazards --against`), so
//! it uses nothing but what the helper has always had.

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    str::FromStr,
    thread,
};

use synflip::{Listener, Mode, Server};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

/// What it is to do.
#[derive(Debug, Default)]
struct Args {
    /// `--listen ADDR`, as often as one likes.
    listen: Vec<SocketAddr>,
    /// `--listeners N`: so many on each address.
    listeners: usize,
    /// `--accept-from K`: accept from the first K only, whatever becomes of the others.
    accept_from: Option<usize>,
    /// `--panic-one`: the first accept loop panics at its first connection.
    panic_one: bool,
    /// `--number N`: what it puts into its answers.
    number: u32,
    /// `--service NAME`
    service: Option<String>,
    /// `--generation NAME`
    generation: Option<String>,
    /// `--socket PATH`
    socket: Option<String>,
    /// `--require-agent`
    require_agent: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::read(env::args().skip(1))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(args))
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    // From here on it no longer ends the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let server = args.start()?;
    let mut listeners = server.listeners();
    let count = listeners.len();
    listeners.truncate(args.accept_from.unwrap_or(count));
    let mut loops = JoinSet::new();
    for (at, listener) in listeners.into_iter().enumerate() {
        let (number, panics) = (args.number, args.panic_one && at == 0);
        loops.spawn_blocking(move || accept(&listener, number, panics));
    }
    server.ready()?;
    say(&format!(r#"{{"ready":true,"listeners":{count}}}"#))?;
    loop {
        tokio::select! {
            _ = terminate.recv() => server.stop(),
            // One may have panicked, as it was told to.
            ended = loops.join_next() => if ended.is_none() { break },
        }
    }
    server.join();
    say(r#"{"exit":true,"accepted":0,"served":0}"#)?;
    Ok(())
}

impl Args {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut args = Self {
            listeners: 1,
            ..Self::default()
        };
        while let Some(name) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--listen" => args.listen.push(parse(&value()?)?),
                "--listeners" => args.listeners = parse(&value()?)?,
                "--accept-from" => args.accept_from = Some(parse(&value()?)?),
                "--panic-one" => args.panic_one = true,
                "--number" => args.number = parse(&value()?)?,
                "--service" => args.service = Some(value()?),
                "--generation" => args.generation = Some(value()?),
                "--socket" => args.socket = Some(value()?),
                "--require-agent" => args.require_agent = true,
                _ => return Err(format!("no such option: {name}").into()),
            }
        }
        Ok(args)
    }

    fn start(&self) -> Result<Server, synflip::Error> {
        let service = self.service.as_deref().unwrap_or("web");
        let mut builder = Server::builder(service);
        for address in &self.listen {
            builder = builder.listen(*address, self.listeners);
        }
        if let Some(generation) = &self.generation {
            builder = builder.generation(generation.clone());
        }
        if let Some(socket) = &self.socket {
            builder = builder.socket(socket);
        }
        if self.require_agent {
            builder = builder.mode(Mode::Required);
        }
        builder.start()
    }
}

fn parse<T>(text: &str) -> Result<T, Box<dyn Error>>
where
    T: FromStr<Err: Error + 'static>,
{
    Ok(text.parse()?)
}

/// Accepts until the listener ends, and answers each connection on a thread of its own.
fn accept(listener: &Listener, number: u32, panics: bool) {
    for connection in listener.incoming().map_while(Result::ok) {
        assert!(!panics, "told to panic");
        thread::spawn(move || answer(connection.0, number));
    }
}

fn answer(mut stream: TcpStream, number: u32) -> io::Result<()> {
    let mut message = [0; 16];
    stream.read_exact(&mut message[..8])?;
    message[8..12].copy_from_slice(&number.to_le_bytes());
    stream.write_all(&message)
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
