//! What may be asked for, and what of it makes no sense?

use std::{ffi::OsString, time::Duration};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use synflip_bed::{
    Delay, Network,
    capability::is_slow,
    load::{Config, Mode},
    network::Samples,
    wait::{MS, SECOND},
};

use crate::{
    command::{Common, Output},
    generator::BEYOND,
};

/// Inject faults of every kind into a service under load, and show what every client got.
#[derive(Debug, Parser)]
#[command(name = "synflip-soak", version, after_help = EXAMPLES)]
struct Args {
    /// For how long faults are injected
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// Connections per second, at random times [default: 1500; 100 on an emulated machine]
    #[arg(long, value_name = "CPS")]
    rate: Option<f64>,
    #[command(flatten)]
    common: Common,
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
    pub(super) rate: f64,
    /// The line between clients and servers, and the seed of all that is random.
    pub(super) delay: Delay,
    /// Between two faults, at most.
    pub(super) longest_pause: Duration,
    pub(super) output: Output,
}

impl Settings {
    pub(super) fn new(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let refuse = |text| Args::command().error(ErrorKind::ValueValidation, text);
        Self::check(Args::try_parse_from(args)?, is_slow()).map_err(refuse)
    }

    fn check(args: Args, slow: bool) -> Result<Self, String> {
        let (minutes, rate, pause_ms) = (args.minutes, args.rate, if slow { 100 } else { 600 });
        if !(0.1..=MAX_MINUTES).contains(&minutes) {
            return Err(format!(
                "--minutes {minutes}: must be between 0.1 and {MAX_MINUTES}"
            ));
        }
        let rate = rate.unwrap_or(if slow { 100.0 } else { 1500.0 });
        if !(1.0..=MAX_RATE).contains(&rate) {
            return Err(format!(
                "--rate {rate}: must be between 1 and {MAX_RATE} per second"
            ));
        }
        let delay = args.common.delay(SECOND, MAX_LOSS)?;
        Ok(Self {
            duration: Duration::from_secs_f64(minutes * 60.0),
            rate,
            delay,
            longest_pause: pause_ms * MS,
            output: args.common.output(),
        })
    }

    /// The load: clients that do not wait for each other, so that each stall is seen by all that
    /// come meanwhile. A file tells what became of each connection.
    pub(super) fn load(&self, net: &Network, samples: &Samples) -> Config {
        Config {
            mode: Mode::Open {
                rate: self.rate,
                max_in_flight: MAX_IN_FLIGHT,
            },
            timeout: PATIENCE,
            seed: self.delay.seed,
            samples: Some(samples.file()),
            ..Config::closed(net.address, 1, self.duration + BEYOND)
        }
    }
}

const MAX_MINUTES: f64 = 1440.0;
const MAX_RATE: f64 = 20_000.0;
const MAX_LOSS: f64 = 0.1;
const MAX_IN_FLIGHT: usize = 20_000;
/// A client that has waited so long has lost its connection. A lost SYN is sent again after 1, 3,
/// 7 and 15 s: that is TCP, and no loss.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn settings(args: &[&str]) -> Result<Settings, clap::Error> {
        let args = ["synflip-soak"].iter().chain(args);
        Settings::new(args.map(OsString::from))
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
