//! Keeping the relay process: found when the agent starts, started when it is needed, listened to
//! while it is there.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use synflip_plan::{Moment, Retry};
use synflip_relay::Report;
use tokio::{
    process::Child,
    select,
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    Connected, Handoff, Known, PACE, Place, SERVICES,
    process::{self, NoProcess},
};
use crate::{foreign::Foreign, service::moment};

/// How long a process has to live for its death to be no failure to start it.
const LIVES_AT_LEAST: Duration = Duration::from_secs(10);
/// How soon a process that has ended can be asked how.
const REAPED_WITHIN: Duration = Duration::from_secs(1);
/// Time between two tries to send what the process's socket has no room for.
const RESEND_PAUSE: Duration = Duration::from_millis(10);

/// Characters of its reason why a connection has failed.
const LONGEST_REASON: usize = 200;

/// Has a process whenever one is wanted, and keeps `known` up to date, for as long as the agent
/// runs.
pub(super) async fn keep(
    path: PathBuf,
    wanted: Arc<Notify>,
    mut unsent: mpsc::UnboundedReceiver<Handoff>,
    known: watch::Sender<Known>,
) {
    let mut next = find_earlier(&path).await.map(|connected| (connected, None));
    let mut pause = Pause::new();
    // What could not be sent to the process before.
    let mut waiting = Vec::new();
    loop {
        let (connected, child) = match next.take() {
            Some(process) => process,
            None => {
                if waiting.is_empty() {
                    clear_request(&wanted).await;
                    select! {
                        () = wanted.notified() => {}
                        Some(handoff) = unsent.recv() => waiting.push(handoff),
                    }
                }
                start_with_retries(&path, &mut pause).await
            }
        };
        let since = Instant::now();
        let to = Arc::new(connected);
        known.send_modify(|known| known.to = Some(Arc::clone(&to)));
        let end = select! {
            end = read_reports(&to, &known) => end,
            never = send_waiting(&to, &known, &mut waiting, &mut unsent) => match never {},
        };
        let (pid, carried) = (to.pid, carried(&to, &known));
        known.send_modify(Known::ended);
        drop(to);
        match end {
            Ok(()) => {
                let how = how_it_ended(child).await;
                tracing::warn!(
                    pid,
                    lost = carried,
                    "the relay process has ended ({how}), and with it the connections that it carried"
                );
            }
            Err(error) => tracing::warn!(
                pid,
                carried,
                "the relay process is left alone: {error}; what it carries goes on, and another is \
                 started when one is needed"
            ),
        }
        if since.elapsed() >= LIVES_AT_LEAST {
            pause = Pause::new();
        } else {
            pause.after_failure().await;
        }
    }
}

/// Time between two tries to have a process that lives.
struct Pause {
    retry: Retry,
    started: Instant,
}

impl Pause {
    /// None has failed yet.
    fn new() -> Self {
        Self {
            retry: Retry::now(Moment::default()),
            started: Instant::now(),
        }
    }

    async fn after_failure(&mut self) {
        let now = moment(self.started);
        self.retry.later(now, PACE);
        sleep(Duration::from_millis(self.retry.due - now)).await;
    }
}

/// Forgets that a process was asked for while one was being started: whoever needs another one
/// asks when it has seen that this one is gone.
async fn clear_request(wanted: &Notify) {
    select! {
        biased;
        () = wanted.notified() => {}
        () = std::future::ready(()) => {}
    }
}

/// The process that an earlier agent has started, if there is one.
async fn find_earlier(path: &Path) -> Option<Connected> {
    match process::find(path).await {
        Ok(connected) => {
            tracing::info!(
                pid = connected.pid,
                "an earlier agent's relay process is there"
            );
            Some(connected)
        }
        Err(NoProcess::Absent) => None,
        Err(why) => {
            tracing::warn!(
                "an earlier agent's relay process is left alone: {why}; what it carries goes on, \
                 and another is started when one is needed"
            );
            None
        }
    }
}

/// Starts a process, however often that has to be tried.
async fn start_with_retries(path: &Path, pause: &mut Pause) -> (Connected, Option<Child>) {
    let mut said = None;
    loop {
        match process::start(path).await {
            Ok((connected, child)) => {
                tracing::info!(pid = connected.pid, "started a relay process");
                return (connected, Some(child));
            }
            Err(why) => {
                let why = why.to_string();
                if said.as_ref() != Some(&why) {
                    tracing::warn!(
                        "no relay process can be started: {why}; connections that only it could \
                         take wait in their queues, and it is tried again"
                    );
                    said = Some(why);
                }
                pause.after_failure().await;
            }
        }
    }
}

/// Reads what a process reports until it has ended. Strangers talk to that process: what it says
/// is bounded.
async fn read_reports(to: &Connected, known: &watch::Sender<Known>) -> io::Result<()> {
    let mut failures = 0;
    loop {
        // None are expected.
        let mut fds = Foreign::default();
        let Some(report) = to.line.receive_into::<Report>(&mut fds).await? else {
            return Ok(());
        };
        match report {
            Report::State { may_send, services } => known.send_modify(|known| {
                known.may_send = may_send;
                known.counts.extend(services);
                if known.counts.len() > SERVICES {
                    known.counts.clear();
                }
            }),
            Report::Failed { service, why } if failures < to.sent.load(Ordering::Relaxed) => {
                failures += 1;
                let why: String = why.chars().take(LONGEST_REASON).collect();
                let why = why.escape_debug();
                tracing::warn!(%service, "a relayed connection has failed: {why}");
            }
            Report::Failed { .. } => {}
        }
    }
}

/// Sends what could not be sent when it was accepted.
async fn send_waiting(
    to: &Connected,
    known: &watch::Sender<Known>,
    waiting: &mut Vec<Handoff>,
    unsent: &mut mpsc::UnboundedReceiver<Handoff>,
) -> std::convert::Infallible {
    loop {
        let may_send = known.borrow().may_send;
        waiting.retain(|handoff| match Place::reserve(&to.sent, may_send) {
            Some(place) => to.send(handoff, place).is_err(),
            None => true,
        });
        let more = async {
            match unsent.recv().await {
                Some(handoff) => handoff,
                // The agent is ending.
                None => std::future::pending().await,
            }
        };
        if waiting.is_empty() {
            waiting.push(more.await);
        } else {
            sleep(RESEND_PAUSE).await;
        }
    }
}

/// How many connections a process carries, those included that it has not read of yet.
fn carried(to: &Connected, known: &watch::Sender<Known>) -> u64 {
    let sent = to.sent.load(Ordering::Relaxed);
    let may_send = known.borrow().may_send;
    sent.saturating_add(to.places).saturating_sub(may_send)
}

async fn how_it_ended(child: Option<Child>) -> String {
    let Some(mut child) = child else {
        return "an earlier agent had started it".to_owned();
    };
    match timeout(REAPED_WITHIN, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "it closed its socket".to_owned(),
    }
}
