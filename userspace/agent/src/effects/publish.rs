//! Which table the programs follow, and that they are on the reuseport groups.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use synflip_bpf::{BpfError, Published, Step};
use synflip_plan::{Input, NotPublished, Table};
use synflip_types::{Cookie, EndpointId, Slot};

use super::Executor;
use crate::{error::chain, fault::Point, registry::Report};

impl Executor {
    /// Attaches the program to each reuseport group, by a listener that the agent holds.
    ///
    /// Any member may have replaced it or taken it away. Nobody is told, and the kernel does not
    /// say which one a group has; attaching what is attached changes nothing.
    pub(super) fn attach(&mut self) -> Result<(), String> {
        self.try_attach().map_err(|error| chain(&error))
    }

    fn try_attach(&mut self) -> Result<(), BpfError> {
        let Some((steering, _)) = &mut self.kernel else {
            return Ok(());
        };
        let mut groups = BTreeMap::new();
        for (slot, listener) in &self.custody {
            let Some(endpoint) = self.notes.get(slot).map(|note| note.endpoint) else {
                continue;
            };
            // One that was shut down has left its group: attaching by it would make a new group,
            // for it alone (`reuseport_attach_prog` allocates one for an unhashed socket, 5.10 to
            // 7.3: https://elixir.bootlin.com/linux/v6.12/source/net/core/sock_reuseport.c).
            if matches!(groups.get(&endpoint), Some(Ok(())))
                || self.unfilled.contains(slot)
                || listener.has_stopped()
            {
                continue;
            }
            groups.insert(endpoint, steering.attach(endpoint, listener.as_fd()));
        }
        self.watch.attached(groups.keys().copied().map(EndpointId));
        groups.into_values().collect()
    }

    /// Takes the programs off the groups of what is in custody still, and closes it: its servers
    /// go on without.
    pub(super) fn give_back(&mut self) {
        for listener in self.custody.values() {
            // Of several in one group, the first has done it.
            match synflip_bpf::detach(listener.as_fd()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(service = %self.service, "taking the program off: {error}");
                }
                _ => {}
            }
        }
        let slots: Vec<Slot> = self.custody.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.close(slot, 0));
    }

    /// Waits for a grace period.
    pub(super) fn barrier(&mut self) {
        if let Some((_, publisher)) = &mut self.kernel
            && let Err(error) = publisher.barrier()
        {
            tracing::warn!(service = %self.service, "{}", chain(&error));
        }
    }

    /// Publishes a table. The program is attached before: a SYN that is on its way past it still
    /// has chosen its listener when the grace period is over.
    pub(super) fn publish(&mut self, table: &Table, members: &[(Slot, Cookie)]) {
        let report = match self.try_publish(table, members) {
            Ok(published) => Report::Published {
                took: published.took,
            },
            Err(error) => {
                let gone = match &error {
                    BpfError::ListenerGone { slot } => Some(Slot(*slot)),
                    _ => None,
                };
                let why = chain(&error);
                Report::Input(Input::Published(Err(NotPublished { gone, why })))
            }
        };
        self.tell_report(report);
    }

    fn try_publish(
        &mut self,
        table: &Table,
        members: &[(Slot, Cookie)],
    ) -> Result<Published, BpfError> {
        self.try_attach()?;
        let members: Vec<(u32, u64)> = members
            .iter()
            .map(|(slot, cookie)| (slot.0, cookie.0))
            .collect();
        let faults = self.setting.faults.clone();
        let Some((_, publisher)) = &mut self.kernel else {
            return Err(BpfError::Foreign { name: "TABLES" });
        };
        publisher.publish_stepwise(&table.words(), &members, |step| {
            faults.reach(match step {
                Step::Filled => Point::TableFilled,
                Step::Verified => Point::TableVerified,
            });
        })
    }
}
