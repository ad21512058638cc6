//! What every run under load is told: the line, the seed, and where its results go.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use synflip_bed::Delay;

use super::{Output, format, parse};

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Round-trip time between clients and servers
    #[arg(long, default_value = "1ms", value_parser = parse::duration, allow_hyphen_values = true)]
    rtt: Duration,
    /// Packets lost in each direction, such as 1% or 0.01
    #[arg(long, default_value = "0%", value_parser = parse::share, allow_hyphen_values = true)]
    loss: f64,
    /// Seed of all that is random: times, faults, requests, lost packets [default: random, and
    /// shown]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also write the results to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Common {
    /// The line between clients and servers, and the seed, which is the run's.
    pub(crate) fn delay(&self, longest: Duration, most: f64) -> Result<Delay, String> {
        let (rtt, loss) = (self.rtt, self.loss);
        if rtt > longest {
            let [rtt, longest] = [rtt, longest].map(format::given);
            return Err(format!("--rtt {rtt}: must be at most {longest}"));
        }
        if !(0.0..=most).contains(&loss) {
            let [loss, most] = [loss, most].map(format::percent);
            return Err(format!(
                "--loss {loss}: must be between 0% and {most}; write 1% or 0.01"
            ));
        }
        // Short enough to type, and exact in any reader of JSON.
        let seed = self.seed.unwrap_or_else(|| rand::random::<u32>().into());
        Ok(Delay { rtt, loss, seed })
    }

    /// Where the results go.
    pub(crate) fn output(self) -> Output {
        Output::new(self.json)
    }
}
