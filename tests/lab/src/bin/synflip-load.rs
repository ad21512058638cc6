//! Makes load on a TCP service and reports what became of every connection.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use synflip_bed::load::{self, Config, Mode};

/// Make load on a TCP service and count what became of every connection.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to connect; several are used in turn
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    connect: Vec<SocketAddr>,
    /// Closed loop: connections in flight at all times
    #[arg(long, default_value_t = 64, conflicts_with = "rate")]
    clients: usize,
    /// Open loop: mean connections per second, at random times
    #[arg(long, value_name = "CPS")]
    rate: Option<f64>,
    /// Open loop: connections in flight at most; more arrivals are overrun
    #[arg(long, default_value_t = 20_000, requires = "rate")]
    max_in_flight: usize,
    /// For how long connections are opened
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long one connection may take
    #[arg(long, default_value_t = 5.0, value_name = "SECS")]
    timeout: f64,
    /// Seed of request ids and arrival times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report to a file instead of standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one binary record per connection to a file
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Stop when standard input is closed
    #[arg(long)]
    until_stdin_closes: bool,
    /// Print a line of JSON with the counts every 200 ms
    #[arg(long)]
    progress: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let config = Config {
        connect: args.connect,
        mode: match args.rate {
            Some(rate) => Mode::Open {
                rate,
                max_in_flight: args.max_in_flight,
            },
            None => Mode::Closed {
                clients: args.clients,
            },
        },
        duration: Duration::try_from_secs_f64(args.seconds).context("--seconds")?,
        timeout: Duration::try_from_secs_f64(args.timeout).context("--timeout")?,
        seed: args.seed,
        samples: args.samples,
    };
    let stop = Arc::new(AtomicBool::new(false));
    if args.until_stdin_closes {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            // An error ends standard input as well as its end does.
            while matches!(io::stdin().read(&mut [0; 64]), Ok(1..)) {}
            stop.store(true, Relaxed);
        });
    }
    let report = load::run_with(&config, &stop, |progress| {
        if args.progress {
            print(progress)
        } else {
            Ok(())
        }
    })?;
    match &args.json {
        Some(path) => fs::write(
            path,
            serde_json::to_vec(&report).context("encode the report")?,
        )
        .with_context(|| format!("write {}", path.display()))?,
        None => print(&report)?,
    }
    if let Some(first) = &report.local_errors.first {
        writeln!(
            io::stderr(),
            "synflip-load: {} local errors: {first}",
            report.local_errors.count
        )
        .context("write to standard error")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one line of JSON, at once.
fn print(value: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value).context("encode a line")?;
    line.push('\n');
    io::stdout()
        .lock()
        .write_all(line.as_bytes())
        .context("write to standard output")
}
