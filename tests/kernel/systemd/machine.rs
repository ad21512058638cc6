//! What these tests begin with: a machine on which systemd runs an agent that knows nothing yet.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{
    Network,
    fixture::{find, works},
    product::{Cli, Operator, program},
    wait::{self, SOON},
};
use synflip_wire::{DEFAULT_SOCKET, Phase, ServiceStatus};

use crate::unit::{Unit, systemctl};

/// The machine, its loopback, and the agent's unit.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) net: Network,
    pub(crate) agent: Unit,
}

impl Machine {
    /// Ends what an earlier test has left, and starts the agent.
    pub(crate) fn new() -> Result<Self> {
        Self::with_agent("")
    }

    /// The same, with more lines for the section `[Service]` of the agent's unit.
    pub(crate) fn with_agent(lines: &str) -> Result<Self> {
        ensure!(
            Path::new("/etc/systemd/system/synflip-tests.service").exists(),
            "this runs in a machine of its own: `cargo xtask test systemd`"
        );
        // The servers first: the agent gives up what is theirs when they have stopped.
        systemctl(&["stop", "synflip-web@*.service"])?;
        systemctl(&["stop", "synflip.service"])?;
        let lines = format!("[Service]\n{lines}\n");
        let dir = Path::new("/run/systemd/system/synflip.service.d");
        if fs::read_to_string(dir.join(DROP_IN)).unwrap_or_default() != lines {
            write(dir, DROP_IN, &lines)?;
            systemctl(&["daemon-reload"])?;
        }
        let machine = Self {
            net: Network::of_the_machine()?,
            agent: Unit::new("synflip.service"),
        };
        machine.agent.start()?;
        ensure!(machine.agent.stored()? == 0, "descriptors of another test");
        let mut operator = Operator::at(Path::new(DEFAULT_SOCKET))?;
        ensure!(operator.service().is_err(), "a service of another test");
        Ok(machine)
    }

    /// Starts the server of generation `v` and its number, with two listeners and more arguments;
    /// it is registered and ready when this returns.
    pub(crate) fn server(&self, number: u32, args: &str) -> Result<Unit> {
        let generation = format!("v{number}");
        let args = format!("ARGS=--number {number} {args}\n");
        write(Path::new("/run/synflip-web"), &generation, &args)?;
        let unit = Unit::new(&format!("synflip-web@{generation}.service"));
        unit.start()?;
        self.until(&format!("{generation} is ready"), |service| {
            find(service, &generation)
                .is_some_and(|g| matches!(g.phase, Phase::Ready | Phase::Working))
        })?;
        Ok(unit)
    }

    /// Starts the first server, and waits until new connections go to it.
    pub(crate) fn first(&self, args: &str) -> Result<Unit> {
        let unit = self.server(1, args)?;
        self.until("v1 works", |service| works(service, "v1"))?;
        Ok(unit)
    }

    /// Waits until the only service is as wanted; while there is no agent, it is not.
    pub(crate) fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ServiceStatus) -> bool,
    ) -> Result<ServiceStatus> {
        let mut last = None;
        let waited = wait::until(what, SOON, || {
            last = Operator::at(Path::new(DEFAULT_SOCKET))
                .and_then(|mut operator| operator.service())
                .ok();
            last.as_ref().is_some_and(&wanted)
        });
        waited.with_context(|| format!("{last:#?}"))?;
        last.context("no status")
    }

    /// Waits until systemd keeps so many descriptors for the agent.
    pub(crate) fn until_stored(&self, count: u32) -> Result<()> {
        wait::until(&format!("{count} are stored"), SOON, || {
            self.agent.stored().is_ok_and(|stored| stored == count)
        })
    }

    /// Flips with the command line, and waits for the drain.
    pub(crate) fn flip(&self, to: &str) -> Result<()> {
        run(&["flip", "--to", to])
    }

    /// Has a server adopted that is no unit and links nothing.
    pub(crate) fn adopt(&self, pid: u32, generation: &str) -> Result<()> {
        let pid = pid.to_string();
        let service = ["adopt", "--service", "web"];
        run(&[&service[..], &["--pid", &pid, "--generation", generation]].concat())
    }
}

/// Runs the command line, which must succeed.
fn run(args: &[&str]) -> Result<()> {
    let said = Command::new(program("synflip")?).args(args).output();
    let said = Cli::from(said.context("run synflip")?);
    ensure!(said.code == 0, "{args:?}: {said:?}");
    Ok(())
}

fn write(dir: &Path, file: &str, text: &str) -> Result<()> {
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(dir.join(file), text))
        .with_context(|| format!("write {file} in {}", dir.display()))
}

/// What the agent's unit has in one test and not in others.
const DROP_IN: &str = "test.conf";
