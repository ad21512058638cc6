//! Taking up a service that an earlier agent has left in the kernel.

use std::net::SocketAddr;

use crate::{Generation, GenerationId, Member, Phase, ProcessId, Service, Slot, Table};

/// A listener as the earlier agent has noted it, and which is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its slot.
    pub slot: Slot,
    /// Its socket cookie.
    pub cookie: u64,
    /// The endpoint that it is bound to.
    pub endpoint: u32,
    /// That endpoint's address.
    pub address: SocketAddr,
    /// Its generation.
    pub generation: GenerationId,
    /// Its generation's name.
    pub name: String,
    /// If its generation has been flipped away from: the low half of the count of flips that this
    /// made; 0 if it has been retired.
    pub left_at: Option<u32>,
    /// Whether its generation is to be kept for a rollback once it has drained.
    pub keep: bool,
    /// Whether it is open only because it is the first of its hash bucket.
    pub tombstone: bool,
}

impl Service {
    /// A service as the kernel has it: the published table, and the listeners that are open.
    ///
    /// Their processes are [`ProcessId::ABSENT`] until they come back, and count as serving until
    /// then: nothing changes for new connections. The generation that the table names works,
    /// those that were flipped away from drain, others have to say again that they are ready.
    pub fn restored(published: Option<Table>, left: &[Left]) -> Self {
        let mut service = Self::new();
        if let Some(table) = published.filter(|table| !table.is_empty()) {
            service.working = Some(table.generation());
            // Its number is taken even if none of its listeners is left.
            service.last_id = table.generation().0;
            service.epoch = table.epoch();
            service.published = Some(table);
        }
        for listener in left {
            service.take_over(listener);
        }
        service.generations.sort_by_key(|generation| generation.id);
        let (working, epoch) = (service.working, service.epoch);
        let left_last = left.iter().find(|listener| {
            working.is_some_and(|working| working != listener.generation)
                && listener.left_at.map(u64::from) == Some(epoch)
        });
        service.previous = left_last.map(|listener| listener.generation);
        service
    }

    fn take_over(&mut self, left: &Left) {
        // An endpoint of which no listener is left still has its number.
        while self.endpoints.len() <= left.endpoint as usize {
            self.endpoints.push(SocketAddr::from(([0, 0, 0, 0], 0)));
        }
        self.endpoints[left.endpoint as usize] = left.address;
        if !self.slots.take_this(left.slot) {
            return;
        }
        self.last_id = self.last_id.max(left.generation.0);
        let phase = match self.working {
            Some(working) if left.generation == working => Phase::Working,
            Some(_) if left.left_at.is_some() => Phase::Draining,
            _ => Phase::Registered,
        };
        let member = Member {
            slot: left.slot,
            endpoint: left.endpoint,
            cookie: left.cookie,
            process: ProcessId::ABSENT,
            ready: phase == Phase::Working,
            served: true,
        };
        if left.tombstone {
            self.tombstones.push(Member {
                ready: false,
                served: false,
                ..member
            });
            return;
        }
        match self
            .generations
            .iter_mut()
            .find(|generation| generation.id == left.generation)
        {
            Some(generation) => {
                generation.members.push(member);
                // One that joined later may not have been noted as leaving.
                if phase == Phase::Draining {
                    generation.phase = phase;
                }
            }
            None => self.generations.push(Generation {
                id: left.generation,
                name: left.name.clone(),
                phase,
                members: vec![member],
            }),
        }
    }

    /// The listeners whose processes have not come back yet.
    pub fn absent(&self) -> Vec<Member> {
        let members = self
            .generations
            .iter()
            .flat_map(|generation| &generation.members);
        members
            .filter(|m| m.served && m.process == ProcessId::ABSENT)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(slot: Slot, generation: u32) -> Left {
        Left {
            slot,
            cookie: 100 + u64::from(slot),
            endpoint: 0,
            address: SocketAddr::from(([127, 0, 0, 1], 80)),
            generation: GenerationId(generation),
            name: format!("gen{generation}"),
            left_at: None,
            keep: false,
            tombstone: false,
        }
    }

    #[test]
    fn a_restored_service_is_what_it_was() {
        let table = Table::new([[2, 3].as_slice()]).of(GenerationId(2), 5);
        let old = Left {
            left_at: Some(5),
            ..left(0, 1)
        };
        let all = [old, left(2, 2), left(3, 2), left(4, 3)];
        let mut service = Service::restored(Some(table), &all);
        let phases: Vec<_> = service.generations().iter().map(|g| g.phase).collect();
        assert_eq!(phases, [Phase::Draining, Phase::Working, Phase::Registered]);
        assert_eq!(
            (service.working(), service.epoch()),
            (Some(GenerationId(2)), 5)
        );
        assert_eq!(service.previous(), Some(GenerationId(1)));
        // Nobody is back, and nothing is to change.
        assert_eq!(service.begin_refresh(), None);

        let address = left(2, 2).address;
        let back = service.join(
            ProcessId(9),
            Some("gen2"),
            &[(address, 102), (address, 103)],
        );
        let back = back.unwrap();
        assert_eq!((back.slots, back.known), (vec![2, 3], vec![2, 3]));
        assert_eq!(service.begin_refresh(), None);
        // One that drains may come back to its listeners, and nobody else may join it.
        service
            .join(ProcessId(10), Some("gen1"), &[(address, 100)])
            .unwrap();
        service
            .join(ProcessId(11), Some("gen1"), &[(address, 999)])
            .unwrap_err();
        let absent: Vec<_> = service.absent().iter().map(|member| member.slot).collect();
        assert_eq!(absent, [4]);
        // The next to be founded takes neither a name nor a number that is in use.
        let next = service.join(ProcessId(12), None, &[(address, 7)]).unwrap();
        assert_eq!(next.generation, GenerationId(4));
        assert!(![0, 2, 3, 4].contains(&next.slots[0]));
    }
}
