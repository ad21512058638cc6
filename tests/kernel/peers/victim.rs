//! A service at work, beside which peers do what they like.

use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Fixture, Setup,
    fixture::find,
    load::Mode,
    network::Load,
    product::Generation,
    wait::{self, SOON},
};

/// A service at work, which must not notice anything.
pub(super) struct Victim {
    pub(super) fixture: Fixture,
    _server: Generation,
    pub(super) load: Load,
    pub(super) fds: usize,
}

impl Victim {
    pub(super) fn new() -> Result<Self> {
        let fixture = Setup::new().agent_args(&["--hold", "1"]).start()?;
        let server = fixture.first(&[])?;
        let fds = fixture.agent.settled_fds()?;
        // Some all the time, without keeping the processors from everything else.
        let load = fixture.net.load_in(Mode::Open {
            rate: 200.0,
            max_in_flight: 4,
        });
        load.more(20)?;
        Ok(Self {
            fixture,
            _server: server,
            load,
            fds,
        })
    }

    pub(super) fn connect(&self) -> Result<UnixStream> {
        let stream =
            UnixStream::connect(self.fixture.agent.socket()).context("connect to the agent")?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }

    /// The agent lives and has forgotten what came; clients have lost nothing.
    pub(super) fn check_unharmed(self) -> Result<()> {
        self.load.more(50)?;
        let report = self.load.finish_unharmed()?;
        ensure!(report.by_generation.keys().eq([&1]), "{report:?}");
        self.fixture.agent.check_counters()?;
        let service = self.fixture.until("it is the only service", |_| true)?;
        ensure!(
            find(&service, "gen1").is_some() && service.epoch.0 == 1,
            "{service:#?}"
        );
        ensure!(service.generations.len() == 1, "{service:#?}");
        ensure!(self.fixture.net.answers(5)? == [1; 5], "others answer");
        let mut fds = 0;
        wait::until("its descriptors are those of before", SOON, || {
            fds = self.fixture.agent.open_fds().unwrap_or(0);
            fds == self.fds
        })
        .with_context(|| format!("{} descriptors before, {fds} after", self.fds))
    }
}
