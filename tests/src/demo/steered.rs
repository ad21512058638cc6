//! Generations replaced with synflip.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{
    Interrupt,
    drive::{Drain, Finished, Method},
    half::Counters,
    latency::Window,
    options::Settings,
    stage::Stage,
};
use crate::{
    Netns,
    load::monotonic_us,
    product::{Agent, Drained, Generation, Spec},
    wait,
};

/// An agent and the generations it steers.
///
/// Dropped in the order of the fields: commands, servers, agent.
pub(super) struct Steered<'a> {
    running: Vec<Command>,
    /// All there were: the old ones end by themselves, and are asked at the end whether they did.
    generations: Vec<Generation>,
    agent: Agent,
    stage: &'a Stage,
    settings: &'a Settings,
}

impl<'a> Steered<'a> {
    /// Starts an agent and the first generation.
    pub(super) fn start(stage: &'a Stage, settings: &'a Settings) -> Result<Self> {
        let mut steered = Self {
            running: Vec::new(),
            generations: Vec::new(),
            agent: Agent::start(&stage.server)?,
            stage,
            settings,
        };
        steered.launch(1)?;
        Ok(steered)
    }

    fn launch(&mut self, number: u32) -> Result<()> {
        let listeners = self.settings.listeners_of(number);
        let spec = Spec::new(number, self.stage.address(), listeners);
        let generation = Generation::start(self.netns(), &self.agent, &spec)?;
        self.generations.push(generation);
        Ok(())
    }

    /// An error, and what the agent said last.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let log = self.agent.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow!("{error:#}\nThe agent's log ends with:\n{last}")
    }

    fn netns(&self) -> &Netns {
        &self.stage.server
    }

    /// Waits for the end of the old servers and reads the counters; also says what was not as
    /// it must be.
    pub(super) fn finish(mut self, interrupt: &Interrupt) -> Result<(Counters, Vec<String>)> {
        let mut problems = Vec::new();
        let last = self.generations.pop();
        for mut old in self.generations.drain(..) {
            let name = old.name.clone();
            let mut interrupted = Ok(());
            let ended = wait::until("its end", ENDS_WITHIN, || {
                interrupted = interrupt.check();
                interrupted.is_err() || old.has_ended()
            });
            interrupted?;
            if ended.is_err() {
                problems.push(format!("{name} was told to close and did not end"));
            } else if let Err(error) = old.wait_exit(Duration::from_secs(1)) {
                problems.push(format!("{name} did not end well: {error:#}"));
            }
        }
        if let Err(error) = self.agent.check_counters() {
            problems.push(format!("counters: {error:#}"));
        }
        let mut counters = Counters::default();
        for endpoint in self.agent.service()?.endpoints {
            counters.runs += endpoint.runs;
            counters.selected += endpoint.selected;
            counters.migrated += endpoint.migrated;
            counters.no_table += endpoint.no_table;
            counters.fell_back += endpoint.fell_back;
        }
        drop(last);
        Ok((counters, problems))
    }
}

impl Method for Steered<'_> {
    fn begin(&mut self, to: u32) -> Result<()> {
        self.launch(to)?;
        let command = Command::start(&self.agent, self.stage.dir.path(), to)?;
        self.running.push(command);
        Ok(())
    }

    /// A flip may begin while earlier generations are draining, but not before it is known which
    /// one it replaces.
    fn may_begin(&mut self) -> Result<bool> {
        if self.running.is_empty() {
            return Ok(true);
        }
        let working = self.agent.service()?.working;
        let latest = self.generations.last().map(|latest| latest.name.as_str());
        Ok(working.as_ref().map(ToString::to_string).as_deref() == latest)
    }

    fn finished(&mut self) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for mut command in std::mem::take(&mut self.running) {
            match command.poll().map_err(|error| self.explain(&error))? {
                Some(flip) => finished.push(flip),
                None => self.running.push(command),
            }
        }
        Ok(finished)
    }

    fn unfinished(&self) -> usize {
        self.running.len()
    }
}

/// A `synflip flip` that runs; killed when dropped.
struct Command {
    child: Child,
    to: u32,
    begun_us: u64,
    output: PathBuf,
}

impl Command {
    fn start(agent: &Agent, dir: &Path, to: u32) -> Result<Self> {
        let name = format!("gen{to}");
        // Files rather than pipes: nobody reads before the end.
        let output = dir.join(format!("flip-{to}"));
        let mut command = agent.command(&["flip", "--to", &name, "--json"])?;
        command
            .stdout(File::create(&output)?)
            .stderr(File::create(output.with_extension("err"))?);
        let begun_us = monotonic_us();
        Ok(Self {
            child: command.spawn().context("run synflip flip")?,
            to,
            begun_us,
            output,
        })
    }

    fn poll(&mut self) -> Result<Option<Finished>> {
        let Some(status) = self.child.try_wait().context("look after synflip flip")? else {
            return Ok(None);
        };
        let ended_us = monotonic_us();
        let output = fs::read_to_string(&self.output)?;
        if !status.success() {
            let errors = fs::read_to_string(self.output.with_extension("err"))?;
            bail!(
                "synflip flip --to gen{}: {status}: {output}{errors}",
                self.to
            );
        }
        let drained: Drained = serde_json::from_str(&output).context("read flip --json")?;
        let certificate = drained.drain.context("flip --json has no certificate")?;
        let first = |listener: &synflip_wire::ListenerDrain| listener.steps.first().copied();
        let steps = certificate.listeners.iter().filter_map(first);
        let (queued, half_open) = steps.fold((0, 0), |(queued, half_open), step| {
            (queued + step.queued, half_open + step.half_open)
        });
        Ok(Some(Finished {
            from: self.to - 1,
            window: Window {
                begun_us: self.begun_us,
                ended_us,
            },
            drain: Some(Drain {
                commit_ms: drained.flip.commit_ms,
                drain_ms: certificate
                    .drained_after_ms
                    .context("a drained generation without a time")?,
                queued,
                half_open,
            }),
        }))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Of the agent's log, in an error.
const LOG_LINES: usize = 20;
/// Longer than a server waits for its last clients.
const ENDS_WITHIN: Duration = Duration::from_secs(35);
