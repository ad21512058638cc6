//! What may be asked for, and what of it makes no sense?

use std::{ffi::OsString, time::Duration};

use clap::{CommandFactory as _, Parser, ValueEnum, error::ErrorKind};
use synflip_bed::{
    Delay, Network,
    load::{Config, Mode},
    network::Samples,
    product::Spec,
    wait::SECOND,
};

use super::schedule;
use crate::{
    command::{Common, Output},
    generator::BEYOND,
};

/// Flip generations of a server under load, and show what every client got.
#[derive(Debug, Parser)]
#[command(name = "synflip-run", version, allow_negative_numbers = true, after_help = EXAMPLES)]
struct Args {
    /// Flips, each to a new generation of the server
    #[arg(long, default_value_t = 6, value_name = "N")]
    flips: u32,
    /// For how long connections are opened
    #[arg(long, default_value_t = 12.0, value_name = "S")]
    seconds: f64,
    /// Listeners of a generation; every second one has one more
    #[arg(long, default_value_t = 2, value_name = "L")]
    listeners: usize,
    /// Connections in flight at all times (closed loop)
    #[arg(long, default_value_t = 192, value_name = "C")]
    clients: usize,
    /// Connections per second at random times, whatever became of earlier ones (open loop)
    #[arg(long, value_name = "CPS", conflicts_with = "clients")]
    rate: Option<f64>,
    /// Kill generations with SIGKILL while they are replaced: the old one right after the commit,
    /// and every third time the working one
    #[arg(long)]
    kill_old: bool,
    /// Make the same restarts once more with another method, and show it beside; with --vm, plain
    /// if nothing is said
    #[arg(long, default_value = "none", value_name = "METHOD")]
    baseline: Baseline,
    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask run
  cargo xtask run --flips 10 --seconds 12 --baseline plain
  cargo xtask run --rtt 20ms --loss 1% --json result.json
  cargo xtask run --kill-old

Exit codes: 0 nothing was lost; 1 something was, or the run failed; 2 usage, or a privilege or a
device is missing. In the JSON, lost = reset + refused + timeout, and stalled is part of timeout.
What a killed server had accepted and not answered dies with it; it is died_in_service, and no part
of lost.";

/// The method to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Baseline {
    /// SO_REUSEPORT alone: the new server listens, the old one closes its listeners and finishes
    /// what it has accepted
    Plain,
    /// Nothing is shown beside
    None,
}

/// What is done: the options, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) flips: u32,
    pub(super) duration: Duration,
    pub(super) listeners: usize,
    pub(super) mode: Mode,
    /// The line between clients and servers, and the seed of all that is random.
    pub(super) delay: Delay,
    pub(super) kill_old: bool,
    pub(super) baseline: Baseline,
    pub(super) output: Output,
}

impl Settings {
    pub(super) fn new(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let refuse = |text| Args::command().error(ErrorKind::ValueValidation, text);
        Self::check(Args::try_parse_from(args)?).map_err(refuse)
    }

    fn check(args: Args) -> Result<Self, String> {
        let Args {
            flips,
            seconds,
            listeners,
            clients,
            rate,
            ..
        } = args;
        if !(1.0..=MAX_SECONDS).contains(&seconds) {
            return Err(format!(
                "--seconds {seconds}: must be between 1 and {MAX_SECONDS}"
            ));
        }
        let duration = Duration::from_secs_f64(seconds);
        let shortest = schedule::shortest(flips);
        if duration < shortest {
            let needed = shortest.as_secs_f64();
            return Err(format!(
                "--flips {flips} do not fit into --seconds {seconds}: at random times, at least \
                 0.2 s apart, they need {needed:.1} s; give more seconds or fewer flips"
            ));
        }
        if !(1..=MAX_LISTENERS).contains(&listeners) {
            return Err(format!(
                "--listeners {listeners}: must be between 1 and {MAX_LISTENERS}"
            ));
        }
        if !(1..=MAX_CLIENTS).contains(&clients) {
            return Err(format!(
                "--clients {clients}: must be between 1 and {MAX_CLIENTS}"
            ));
        }
        if let Some(rate) = rate.filter(|rate| !(1.0..=MAX_RATE).contains(rate)) {
            return Err(format!(
                "--rate {rate}: must be between 1 and {MAX_RATE} per second"
            ));
        }
        let delay = args.common.delay(MAX_RTT, MAX_LOSS)?;
        let mode = match rate {
            Some(rate) => Mode::Open {
                rate,
                max_in_flight: MAX_CLIENTS,
            },
            None => Mode::Closed { clients },
        };
        Ok(Self {
            flips,
            duration,
            listeners,
            mode,
            delay,
            kill_old: args.kill_old,
            baseline: args.baseline,
            output: args.common.output(),
        })
    }

    /// Listeners of the generation with this number, from 1. Not all alike: what shrinks loses
    /// most without steering.
    pub(super) const fn listeners_of(&self, number: u32) -> usize {
        self.listeners + if number.is_multiple_of(2) { 1 } else { 0 }
    }

    /// How long one connection may take.
    pub(super) fn timeout(&self) -> Duration {
        // A lost SYN is sent again after 1, 3, 7 and 15 s: that is TCP, and no loss.
        let patience = if self.delay.loss > 0.0 { 20 } else { 5 };
        patience * SECOND + self.delay.rtt * 4
    }

    /// How a generation runs; it keeps a ledger if it may be killed.
    pub(super) fn spec(&self, net: &Network, number: u32) -> Spec {
        Spec {
            ledger: self.kill_old,
            ..net.spec(number, self.listeners_of(number))
        }
    }

    /// The load, and the file for what became of each connection.
    pub(super) fn load(&self, net: &Network, samples: &Samples) -> Config {
        Config {
            mode: self.mode,
            timeout: self.timeout(),
            seed: self.delay.seed,
            samples: Some(samples.file()),
            ..Config::closed(net.address, 1, self.duration + BEYOND)
        }
    }
}

const MAX_SECONDS: f64 = 600.0;
const MAX_LISTENERS: usize = 64;
const MAX_CLIENTS: usize = 20_000;
const MAX_RATE: f64 = 100_000.0;
const MAX_RTT: Duration = Duration::from_secs(2);
const MAX_LOSS: f64 = 0.5;

#[cfg(test)]
pub(super) mod tests {
    use synflip_bed::wait::MS;

    use super::*;

    pub(in super::super) fn settings(args: &[&str]) -> Result<Settings, clap::Error> {
        let args = ["synflip-run"].iter().chain(args);
        Settings::new(args.map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_make_sense() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.delay.rtt, MS);
        assert_eq!((settings.listeners_of(1), settings.listeners_of(2)), (2, 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (args, named) in [
            (["--flips", "100"], "--flips 100 do not fit"),
            (["--flips", "-1"], "--flips"),
            (["--seconds", "0.5"], "--seconds 0.5"),
            (["--seconds", "NaN"], "--seconds"),
            (["--listeners", "0"], "--listeners 0"),
            (["--clients", "0"], "--clients 0"),
            (["--rate", "0"], "--rate 0"),
            (["--rtt", "3s"], "--rtt 3000 ms"),
            (["--rtt", "20"], "20ms or 0.1s"),
            (["--loss", "51%"], "--loss 51%"),
            (["--loss", "1"], "write 1% or 0.01"),
            (["--loss", "-1%"], "--loss -1%"),
            (["--baseline", "magic"], "--baseline"),
        ] {
            let error = settings(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(named), "{args:?}: {error}");
        }
        assert!(settings(&["--rate", "10", "--clients", "3"]).is_err());
    }

    #[test]
    fn retransmissions_of_a_handshake_are_waited_for() {
        let with_loss = settings(&["--loss", "1%"]).unwrap();
        assert!(with_loss.timeout() > Duration::from_secs(1 + 2 + 4 + 8));
    }
}
