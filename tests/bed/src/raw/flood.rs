//! Is a SYN ever left without an answer? A flood which knows each of its SYNs.
//!
//! With `net.ipv4.tcp_syncookies=2` a listener answers a SYN before the write
//! that delivered it returns, without any state. So a SYN without a SYN-ACK has
//! met a moment in which no listener was there to answer, and with two processors
//! sending without pause even moments of nanoseconds are met.

mod template;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Family, Netns, Tun, capability::is_slow};
use template::{Answer, Template};

/// The server's address towards a flood.
#[must_use]
pub const fn server(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(SERVER_V4),
        Family::V6 => IpAddr::V6(SERVER_V6),
    }
}

/// A flood that is going on: one thread on each of two processors.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
    started: Instant,
}

/// What became of the SYNs: `sent = answered + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FloodReport {
    /// SYNs sent, each from an address and port of its own.
    pub sent: u64,
    /// SYNs answered by a SYN-ACK.
    pub answered: u64,
    /// SYNs not answered by a SYN-ACK.
    pub lost: u64,
    /// Resets received; they answer SYNs that are among the lost.
    pub rst: u64,
    /// SYNs sent per second.
    pub per_second: f64,
}

#[derive(Debug)]
struct Shared {
    tun: Tun,
    template: Template,
    stop: AtomicBool,
    end: Instant,
    sent: AtomicU64,
    answered: AtomicU64,
    rst: AtomicU64,
    /// One bit per SYN, set by its SYN-ACK.
    answers: Vec<AtomicU64>,
}

impl Flood {
    /// Floods `dst`, any local address of `netns`, with at most `max` SYNs and no
    /// longer than `limit`. The caller has set `net.ipv4.tcp_syncookies` to 2.
    ///
    /// # Errors
    ///
    /// As [`Tun::open`]; a namespace takes one flood at a time.
    pub fn start(netns: &Netns, dst: SocketAddr, max: u64, limit: Duration) -> Result<Self> {
        ensure!(
            (1..=template::SOURCES).contains(&max),
            "a flood of {max} SYNs"
        );
        let words = usize::try_from(max.div_ceil(64)).context("size of a flood")?;
        let started = Instant::now();
        let shared = Arc::new(Shared {
            tun: Tun::open(netns, (SERVER_V4, 16), (SERVER_V6, 64))?,
            template: Template::new(dst)?,
            stop: AtomicBool::new(false),
            end: started + limit,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            rst: AtomicU64::new(0),
            answers: (0..words).map(|_| AtomicU64::new(0)).collect(),
        });
        let mut flood = Self {
            shared,
            threads: Vec::new(),
            started,
        };
        let cpus = processors()?;
        for (&cpu, number) in cpus.iter().zip(0..) {
            let shared = Arc::clone(&flood.shared);
            let step = cpus.len() as u64;
            let thread = thread::Builder::new()
                .name(format!("flood-{cpu}"))
                .spawn(move || shared.send(cpu, (number..max).step_by(usize::try_from(step)?)))
                .context("start a flood thread")?;
            flood.threads.push(thread);
        }
        Ok(flood)
    }

    /// SYNs sent so far, give or take a batch.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// Ends the flood, waits for late answers and counts.
    ///
    /// # Errors
    ///
    /// When the wire has failed.
    pub fn stop(mut self) -> Result<FloodReport> {
        self.shared.stop.store(true, Relaxed);
        self.finish()
    }

    /// Waits for the flood to reach its limits, then counts as [`Flood::stop`].
    ///
    /// # Errors
    ///
    /// When the wire has failed.
    pub fn join(mut self) -> Result<FloodReport> {
        self.finish()
    }

    fn finish(&mut self) -> Result<FloodReport> {
        for thread in self.threads.drain(..) {
            thread
                .join()
                .map_err(|_panic| anyhow!("a flood thread has panicked"))??;
        }
        let elapsed = self.started.elapsed();
        let shared = &self.shared;
        let sent = shared.sent.load(Relaxed);
        let all_have_come = || shared.answered.load(Relaxed) + shared.rst.load(Relaxed) >= sent;
        shared.receive()?;
        while !all_have_come()
            && shared
                .tun
                .wait(Instant::now() + settle())
                .context("wait for late answers")?
        {
            shared.receive()?;
        }
        let answered = shared.answered.load(Relaxed);
        let lost = sent - answered;
        let rst = shared.rst.load(Relaxed);
        Ok(FloodReport {
            sent,
            answered,
            lost,
            rst,
            per_second: sent as f64 / elapsed.as_secs_f64(),
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A test that wants the result calls `stop`.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn send(&self, cpu: usize, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).with_context(|| format!("run on processor {cpu}"))?;
        let mut numbers = numbers.peekable();
        let mut syn = self.template.packet();
        while numbers.peek().is_some() && !self.stop.load(Relaxed) && Instant::now() < self.end {
            for number in numbers.by_ref().take(BATCH) {
                self.template.address(&mut syn, number);
                // Counted first, so that there are never more answers than SYNs.
                self.sent.fetch_add(1, Relaxed);
                self.tun.write(&syn).context("send a SYN")?;
            }
            self.receive()?;
        }
        Ok(())
    }

    fn receive(&self) -> Result<()> {
        let (mut buffer, mut answered) = ([0; Tun::MTU], 0);
        while let Some(length) = self.tun.read(&mut buffer).context("read the wire")? {
            match self.template.answer(&buffer[..length]) {
                Some(Answer::SynAck(number)) => {
                    let word = usize::try_from(number / 64).context("number of a SYN")?;
                    let bit = 1 << (number % 64);
                    // A repeated answer is no other one.
                    let is_first = |word: &AtomicU64| word.fetch_or(bit, Relaxed) & bit == 0;
                    answered += u64::from(self.answers.get(word).is_some_and(is_first));
                }
                Some(Answer::Reset) => {
                    self.rst.fetch_add(1, Relaxed);
                }
                None => {}
            }
        }
        self.answered.fetch_add(answered, Relaxed);
        Ok(())
    }
}

/// Two processors this process may use, or the only one.
fn processors() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .take(2)
        .collect())
}

/// Silence after which no answer is expected any more.
///
/// An answer may wait in the interface's queue for the processor that was to send it, and that of
/// an emulated machine may not run for a while.
fn settle() -> Duration {
    Duration::from_millis(if is_slow() { 3000 } else { 100 })
}

/// SYNs between two looks at the answers: the interface can queue far more.
const BATCH: usize = 32;
const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 0, 1);
