//! One direction of a link: read, hold, write, in order.

use std::{
    collections::VecDeque,
    num::NonZeroU64,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::event::{PollFd, PollFlags, poll};

use super::Delay;
use crate::{Tun, tun::timespec};

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// Packets that reached the other end.
    pub forwarded: u64,
    /// Packets dropped on purpose.
    pub dropped: u64,
    /// Packets the other end did not take: its interface was going away.
    pub undelivered: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    forwarded: AtomicU64,
    dropped: AtomicU64,
    undelivered: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> Direction {
        Direction {
            forwarded: self.forwarded.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            undelivered: self.undelivered.load(Relaxed),
        }
    }
}

pub(super) struct Line {
    from: Arc<Tun>,
    to: Arc<Tun>,
    hold: Duration,
    loss: f64,
    rng: SmallRng,
    counts: Arc<Counts>,
    held: Held,
}

impl Line {
    pub(super) fn new(
        from: Arc<Tun>,
        to: Arc<Tun>,
        delay: Delay,
        salt: u64,
        counts: Arc<Counts>,
    ) -> Self {
        let rng = SmallRng::seed_from_u64(delay.seed.wrapping_mul(2).wrapping_add(salt));
        Self {
            from,
            to,
            hold: delay.rtt / 2,
            loss: delay.loss,
            rng,
            counts,
            held: Held::new(),
        }
    }

    /// Moves packets until `stop` becomes readable or an interface goes away.
    pub(super) fn run(mut self, stop: &OwnedFd) {
        // The default slack of 50 µs is a tenth of the time to hold at 1 ms.
        // Refused, the link is a little longer than asked; nothing breaks.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap_or_default();
        loop {
            let Some(more) = self.take() else { return };
            self.deliver();
            if more {
                continue;
            }
            let left = self
                .held
                .next_due()
                .map(|due| timespec(due.saturating_duration_since(Instant::now())));
            let input = if self.held.has_room() {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            let mut fds = [
                PollFd::new(&*self.from, input),
                PollFd::new(stop, PollFlags::IN),
            ];
            match poll(&mut fds, left.as_ref()) {
                Ok(_) if fds[1].revents().is_empty() => {}
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Reads what has arrived; true if there may be more, none if the end is near.
    fn take(&mut self) -> Option<bool> {
        let due = Instant::now() + self.hold;
        for _ in 0..BATCH {
            let Some(buffer) = self.held.room() else {
                return Some(false);
            };
            match self.from.read(buffer) {
                Ok(Some(length)) => {
                    if self.loss > 0.0 && self.rng.random_bool(self.loss) {
                        self.counts.dropped.fetch_add(1, Relaxed);
                    } else {
                        self.held.keep(length, due);
                    }
                }
                Ok(None) => return Some(false),
                Err(_) => return None,
            }
        }
        Some(true)
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(packet) = self.held.take_due(now) {
            let count = match self.to.write(packet) {
                Ok(()) => &self.counts.forwarded,
                Err(_) => &self.counts.undelivered,
            };
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Packets on the wire, in one ring of bytes: no allocation per packet, and
/// small packets stay close together in the cache.
struct Held {
    bytes: Vec<u8>,
    packets: VecDeque<Packet>,
    tail: usize,
}

struct Packet {
    due: Instant,
    start: usize,
    length: usize,
}

impl Held {
    fn new() -> Self {
        Self {
            bytes: vec![0; BYTES],
            packets: VecDeque::with_capacity(BATCH),
            tail: 0,
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.packets.front().map(|packet| packet.due)
    }

    /// Where the next packet goes: after the last one, or at the start again.
    fn place(&self) -> Option<usize> {
        let Some(front) = self.packets.front() else {
            return Some(0);
        };
        let wrapped = self.tail <= front.start;
        let limit = if wrapped {
            front.start
        } else {
            self.bytes.len()
        };
        if self.tail + Tun::MTU <= limit {
            Some(self.tail)
        } else if !wrapped && Tun::MTU <= front.start {
            Some(0)
        } else {
            None
        }
    }

    fn has_room(&self) -> bool {
        self.place().is_some()
    }

    fn room(&mut self) -> Option<&mut [u8]> {
        self.tail = self.place()?;
        Some(&mut self.bytes[self.tail..self.tail + Tun::MTU])
    }

    fn keep(&mut self, length: usize, due: Instant) {
        self.packets.push_back(Packet {
            due,
            start: self.tail,
            length,
        });
        self.tail += length;
    }

    fn take_due(&mut self, now: Instant) -> Option<&[u8]> {
        let packet = self.packets.pop_front_if(|packet| packet.due <= now)?;
        Some(&self.bytes[packet.start..packet.start + packet.length])
    }
}

/// Packets read before those due are written.
const BATCH: usize = 64;
/// Room for 100,000 small packets: one second of a busy direction.
const BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_order_and_whole_across_the_wrap() {
        let mut held = Held::new();
        let due = Instant::now();
        let (mut put, mut got) = (0_u32, 0_u32);
        for round in 0..40 {
            while let Some(room) = held.room() {
                let length = 40 + (put as usize * 37) % 1400;
                room[..4].copy_from_slice(&put.to_ne_bytes());
                room[length - 1] = 7;
                held.keep(length, due);
                put += 1;
            }
            assert!(!held.has_room());
            for _ in 0..1000 + round * 50 {
                let Some(packet) = held.take_due(due) else {
                    break;
                };
                assert_eq!(packet[..4], got.to_ne_bytes());
                assert_eq!(packet.len(), 40 + (got as usize * 37) % 1400);
                assert_eq!(packet[packet.len() - 1], 7);
                got += 1;
            }
        }
        assert!(got > 40_000);
    }
}
