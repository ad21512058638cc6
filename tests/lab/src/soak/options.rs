//! What may be asked for, and what of it makes no sense?

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{CommandFactory as _, Parser, error::ErrorKind};

use crate::command::{Output, parse};
use synflip_bed::{Delay, load};

/// Inject faults of every kind into a service under load, and show what every client got.
#[derive(Debug, Parser)]
#[command(name = "synflip-soak", version, after_help = EXAMPLES)]
struct Args {
    /// For how long faults are injected
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// Seed of the faults and of all else that is random [default: random, and shown]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Connections per second, at random times [default: 1500; 100 on an emulated machine]
    #[arg(long, value_name = "CPS")]
    rate: Option<f64>,
    /// Round-trip time between clients and servers
    #[arg(long, default_value = "1ms", value_parser = parse::duration)]
    rtt: Duration,
    /// Packets lost in each direction, such as 1% or 0.01
    #[arg(long, default_value = "0%", value_parser = parse::share)]
    loss: f64,
    /// Also write the results to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask soak --minutes 5
  cargo xtask soak --minutes 60 --loss 1% --json result.json

Exit codes: 0 nothing was lost; 1 something was, the agent has grown, there were too few faults, or
the soak failed; 2 usage, or a privilege or a device is missing.

A seed means one order of faults with one set of parameters; how far it gets in the time is up to
the machine. In the first half of the time the agent is killed too. In the second half it is left
alone, so that one agent sees so many faults that it shows whether it grows by them.";

/// What is done: the options, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) duration: Duration,
    pub(super) seed: u64,
    pub(super) rate: f64,
    pub(super) rtt: Duration,
    pub(super) loss: f64,
    /// Between two faults, at most.
    pub(super) longest_pause: Duration,
    pub(super) output: Output,
}

impl Settings {
    pub(super) fn from_command_line() -> Result<Self, clap::Error> {
        Self::check(Args::try_parse()?, env::var_os("SYNFLIP_SLOW").is_some())
    }

    fn check(args: Args, slow: bool) -> Result<Self, clap::Error> {
        let refuse = |text: String| Err(Args::command().error(ErrorKind::ValueValidation, text));
        let (minutes, rate, pause_ms) = (args.minutes, args.rate, if slow { 100 } else { 600 });
        if !(0.1..=MAX_MINUTES).contains(&minutes) {
            return refuse(format!(
                "--minutes {minutes}: must be between 0.1 and {MAX_MINUTES}"
            ));
        }
        let rate = rate.unwrap_or(if slow { 100.0 } else { 1500.0 });
        if !(1.0..=MAX_RATE).contains(&rate) {
            return refuse(format!(
                "--rate {rate}: must be between 1 and {MAX_RATE} per second"
            ));
        }
        if args.rtt > MAX_RTT || !(0.0..=MAX_LOSS).contains(&args.loss) {
            return refuse("--rtt must be at most 1s, --loss at most 10%".into());
        }
        Ok(Self {
            duration: Duration::from_secs_f64(minutes * 60.0),
            // Short enough to type, and exact in any reader of JSON.
            seed: args.seed.unwrap_or_else(|| rand::random::<u32>().into()),
            rate,
            rtt: args.rtt,
            loss: args.loss,
            longest_pause: Duration::from_millis(pause_ms),
            output: Output::new(args.json),
        })
    }

    /// The distance between clients and servers.
    pub(super) const fn delay(&self) -> Delay {
        Delay {
            rtt: self.rtt,
            loss: self.loss,
            seed: self.seed,
        }
    }

    /// The load: clients that do not wait for each other, so that each stall is seen by all that
    /// come meanwhile. A file tells what became of each connection.
    pub(super) fn load(&self, connect: SocketAddr, samples: &Path) -> load::Config {
        load::Config {
            connect: vec![connect],
            mode: load::Mode::Open {
                rate: self.rate,
                max_in_flight: MAX_IN_FLIGHT,
            },
            duration: self.duration + BEYOND,
            timeout: PATIENCE,
            seed: self.seed,
            samples: Some(samples.to_owned()),
        }
    }
}

const MAX_MINUTES: f64 = 1440.0;
const MAX_RATE: f64 = 20_000.0;
const MAX_RTT: Duration = Duration::from_secs(1);
const MAX_LOSS: f64 = 0.1;
const MAX_IN_FLIGHT: usize = 20_000;
/// A client that has waited so long has lost its connection. A lost SYN is sent again after 1, 3,
/// 7 and 15 s: that is TCP, and no loss.
const PATIENCE: Duration = Duration::from_secs(20);
/// The load is told when to stop; this is for the case that nobody is left to tell it.
const BEYOND: Duration = Duration::from_secs(600);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn settings(args: &[&str]) -> Result<Settings, clap::Error> {
        let args = ["synflip-soak"].iter().chain(args).copied();
        Settings::check(Args::try_parse_from(args)?, false)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        assert!(settings(&[]).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (args, named) in [
            (["--minutes", "0"], "--minutes 0"),
            (["--minutes", "NaN"], "--minutes"),
            (["--rate", "0"], "--rate 0"),
            (["--rtt", "2s"], "--rtt"),
            (["--loss", "20%"], "--loss"),
        ] {
            let error = settings(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(named), "{args:?}: {error}");
        }
    }
}
