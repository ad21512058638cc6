//! What follows from what has happened to a service, and when to look again.

use std::time::{Duration, Instant};

use crate::{registry::Context, service::Service};

/// Time between two looks at what the programs have logged.
const LOGS_AGAIN: Duration = Duration::from_secs(1);

impl Service {
    /// Does what follows from what has happened to this service.
    pub(crate) fn settle(&mut self, now: Instant, hold: Duration, context: &mut Context) {
        self.steering.flush_logs();
        self.watch_absent(now, hold);
        self.watch_drains(now, context);
        if !self.plan.is_committing() {
            self.keep_working(context);
        }
        self.close_unneeded(now, context);

        let served = self
            .plan
            .generations()
            .iter()
            .any(synflip_plan::Generation::is_served);
        if served || self.custody.is_empty() || self.plan.is_committing() {
            self.unserved_since = None;
            return;
        }
        let since = *self.unserved_since.get_or_insert(now);
        let over = self.left_on_purpose || now.duration_since(since) >= hold;
        if over {
            let lost = self.close_all();
            tracing::warn!(service = %self.name, lost, "nobody accepts for it; listeners closed");
        }
    }

    /// Sees to it that the published table is that of a generation which accepts.
    fn keep_working(&mut self, context: &Context) {
        if self.works_unserved()
            && let Some(successor) = self.plan.successor()
        {
            let target = synflip_plan::Target::Named(successor.name.clone());
            if let Err(refusal) = self.flip(&target, None, None, context) {
                tracing::warn!(service = %self.name, "no successor: {refusal}");
            }
        } else if let Some(change) = self.plan.begin_refresh()
            && let Err(refusal) = self.begin(change, context)
        {
            tracing::warn!(service = %self.name, "not published: {refusal}");
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        let served = self
            .plan
            .generations()
            .iter()
            .any(synflip_plan::Generation::is_served);
        self.custody.is_empty() && !served && !self.plan.is_committing()
    }

    /// When something has to be looked at again.
    pub(crate) fn next_due(&self, hold: Duration) -> Option<Instant> {
        let drains = self.drains.iter().flat_map(|drain| {
            [Some(drain.next), drain.waiter.map(|waiter| waiter.deadline)]
                .into_iter()
                .flatten()
        });
        let held = self.unserved_since.map(|since| since + hold);
        // Only an object that logs is looked at without a reason.
        let logs = self.steering.logs().then(|| Instant::now() + LOGS_AGAIN);
        drains
            .chain(self.close_again)
            .chain(self.absent_again)
            .chain(held)
            .chain(logs)
            .min()
    }
}
