//! systemd's watchdog (`WatchdogSec=`): fed by the loop that decides, and by nothing else.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// When systemd is told next that the loop goes round.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Half of what systemd allows; none if it does not watch.
    pause: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self {
            pause: sd_notify::watchdog_enabled().map(|allowed| allowed / 2),
            next: Instant::now(),
        }
    }

    /// When the loop has to have gone round again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pause.map(|_| self.next)
    }

    /// The loop has gone round.
    pub(crate) fn alive(&mut self) {
        let now = Instant::now();
        if let Some(pause) = self.pause.filter(|_| self.next <= now) {
            self.next = now + pause;
            // What cannot be told systemd finds out by itself.
            drop(sd_notify::notify(&[NotifyState::Watchdog]));
        }
    }
}
