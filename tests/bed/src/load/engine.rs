//! The event loop: one thread, one epoll, no allocation per connection.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::event::{
    PollFd, PollFlags,
    epoll::{self, CreateFlags, EventData, EventFlags},
    poll,
};

use super::{
    Config, Mode, Outcome, Progress, Report,
    clock::Clock,
    connection::{Connection, Step},
    report::{Loss, Tally, micros},
    samples,
};
use crate::tun::timespec;

pub(super) struct Engine<'a> {
    config: &'a Config,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Opened connections, oldest first: all have the same timeout.
    deadlines: VecDeque<(Instant, u64)>,
    opened: u64,
    in_flight: usize,
    rng: SmallRng,
    clock: Clock,
    tally: Tally,
    samples: Option<samples::Writer>,
    /// When the open loop opens the next one.
    arrival: Instant,
}

/// A place for a connection, and the token which tells it from its predecessors.
struct Slot {
    token: u64,
    connection: Option<Connection>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(config: &'a Config) -> Result<Self> {
        ensure!(!config.connect.is_empty(), "no address to connect to");
        let bound = match config.mode {
            Mode::Closed { clients } => clients,
            Mode::Open {
                rate,
                max_in_flight,
            } => {
                ensure!(
                    rate.is_finite() && rate > 0.0,
                    "rate {rate} is not positive"
                );
                max_in_flight
            }
        };
        ensure!(
            (1..=MAX_IN_FLIGHT).contains(&bound),
            "{bound} connections in flight"
        );
        Ok(Self {
            config,
            epoll: epoll::create(CreateFlags::CLOEXEC).context("epoll_create")?,
            slots: (0..bound)
                .map(|_| Slot {
                    token: 0,
                    connection: None,
                })
                .collect(),
            free: (0..bound).rev().collect(),
            deadlines: VecDeque::new(),
            opened: 0,
            in_flight: 0,
            rng: SmallRng::seed_from_u64(config.seed),
            clock: Clock::new(),
            tally: Tally::new()?,
            samples: config
                .samples
                .as_deref()
                .map(samples::Writer::create)
                .transpose()?,
            arrival: Instant::now(),
        })
    }

    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        mut progress: impl FnMut(&Progress) -> Result<()>,
    ) -> Result<Report> {
        let start = Instant::now();
        let end = start + self.config.duration;
        let mut opening = None;
        let mut next_progress = start + PROGRESS;
        let mut events = Vec::with_capacity(1024);
        self.arrival = start;
        loop {
            let now = Instant::now();
            if opening.is_none()
                && (now >= end || stop.load(Relaxed) || self.tally.local_errors.count > 0)
            {
                opening = Some(now - start);
            }
            if opening.is_none() {
                self.open_due(now)?;
            } else if self.in_flight == 0 {
                break;
            }
            let mut wake = now + TICK;
            if opening.is_none() {
                wake = wake.min(end);
                if matches!(self.config.mode, Mode::Open { .. }) {
                    wake = wake.min(self.arrival);
                }
            }
            if let Some(&(deadline, _)) = self.deadlines.front() {
                wake = wake.min(deadline);
            }
            self.wait(wake, &mut events)?;
            for event in events.drain(..) {
                self.step(event.data.u64())?;
            }
            let now = Instant::now();
            self.expire(now)?;
            if now >= next_progress {
                progress(&self.tally.progress(now - start))?;
                next_progress = now + PROGRESS;
            }
        }
        if let Some(samples) = self.samples.take() {
            samples.finish()?;
        }
        Ok(self.tally.report(opening.unwrap_or_default()))
    }

    /// Waits for events until `wake`, exact to the timer slack.
    fn wait(&self, wake: Instant, events: &mut Vec<epoll::Event>) -> Result<()> {
        let left = wake.saturating_duration_since(Instant::now());
        let ready = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&NOW),
        );
        if left.is_zero() || !matches!(ready, Ok(0)) {
            return match ready {
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(error).context("epoll_wait"),
            };
        }
        // epoll_wait counts in milliseconds before Linux 5.11, ppoll in
        // nanoseconds on all of them. The events are fetched the next time.
        match poll(
            &mut [PollFd::new(&self.epoll, PollFlags::IN)],
            Some(&timespec(left)),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("ppoll"),
        }
    }

    fn open_due(&mut self, now: Instant) -> Result<()> {
        match self.config.mode {
            Mode::Closed { .. } => {
                // A refusal can be immediate, so count attempts, not successes.
                for _ in 0..self.free.len() {
                    self.open(now)?;
                }
            }
            Mode::Open { rate, .. } => {
                while self.arrival <= now {
                    self.tally.lag = self.tally.lag.max(now - self.arrival);
                    if self.free.is_empty() {
                        self.tally.overrun += 1;
                    } else {
                        self.open(now)?;
                    }
                    let uniform: f64 = self.rng.random();
                    self.arrival += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, now: Instant) -> Result<()> {
        let targets = &self.config.connect;
        let turn = usize::try_from(self.opened).context("count connections")?;
        let to = targets[turn % targets.len()];
        let connection = match Connection::open(to, self.rng.next_u64()) {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.opened += 1;
                return self.settle((now, None), Outcome::Refused, 0, false);
            }
            Err(error) => {
                self.tally.local_error(&format!("connect to {to}"), &error);
                return Ok(());
            }
        };
        let Some(index) = self.free.pop() else {
            return Ok(());
        };
        // The low bits find the slot, the high ones tell its users apart.
        let token = self.opened << SLOT_BITS | index as u64;
        self.opened += 1;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &connection, EventData::new_u64(token), flags)
            .context("watch a connection")?;
        self.deadlines
            .push_back((connection.opened + self.config.timeout, token));
        self.slots[index] = Slot {
            token,
            connection: Some(connection),
        };
        self.in_flight += 1;
        Ok(())
    }

    fn step(&mut self, token: u64) -> Result<()> {
        let slot = &mut self.slots[index_of(token)];
        let Some(connection) = slot.connection.as_mut().filter(|_| slot.token == token) else {
            return Ok(());
        };
        let which = (connection.opened, connection.local);
        match connection.step() {
            Step::Pending => return Ok(()),
            Step::Done {
                outcome,
                generation,
                corrupt,
            } => {
                self.settle(which, outcome, generation, corrupt)?;
            }
            Step::Broken(error) => self.tally.local_error("in a connection", &error),
        }
        self.close(token);
        Ok(())
    }

    /// Ends the connections whose time is up, and forgets the deadlines of those that ended.
    fn expire(&mut self, now: Instant) -> Result<()> {
        while let Some(&(deadline, token)) = self.deadlines.front() {
            let slot = &self.slots[index_of(token)];
            match slot.connection.as_ref().filter(|_| slot.token == token) {
                Some(_) if deadline > now => break,
                Some(connection) => {
                    let which = (connection.opened, connection.local);
                    let outcome = connection.timed_out();
                    self.settle(which, outcome, 0, false)?;
                    self.close(token);
                }
                None => {}
            }
            self.deadlines.pop_front();
        }
        Ok(())
    }

    fn settle(
        &mut self,
        (opened, client): (Instant, Option<SocketAddr>),
        outcome: Outcome,
        generation: u32,
        corrupt: bool,
    ) -> Result<()> {
        let latency = opened.elapsed();
        let opened_us = self.clock.us(opened);
        self.tally.corrupt += u64::from(corrupt);
        self.tally.count(opened_us, outcome, latency, generation);
        if !outcome.is_ok() {
            self.tally.lost(Loss {
                client,
                outcome,
                opened_us,
                ended_us: opened_us + micros(latency),
            });
        }
        match &mut self.samples {
            Some(samples) => samples.add(opened_us, latency, outcome, generation),
            None => Ok(()),
        }
    }

    /// Closes the socket, which also takes it out of the epoll set.
    fn close(&mut self, token: u64) {
        let index = index_of(token);
        self.slots[index].connection = None;
        self.free.push(index);
        self.in_flight -= 1;
    }
}

fn index_of(token: u64) -> usize {
    (token & ((1 << SLOT_BITS) - 1)) as usize
}

const SLOT_BITS: u32 = 20;
const MAX_IN_FLIGHT: usize = 1 << SLOT_BITS;
const PROGRESS: Duration = Duration::from_millis(200);
/// How soon a request to stop is noticed.
const TICK: Duration = Duration::from_millis(20);
const NOW: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
