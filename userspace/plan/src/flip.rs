//! Which generation works: flips, refreshes of its table, and the end of a drain.

use synflip_abi::MAX_ENDPOINTS;

use crate::{Generation, GenerationId, Phase, PlanError, Service, Table};

/// Which generation a flip goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this name.
    Named(String),
    /// The newest that can take connections.
    Latest,
    /// The one that was working before.
    Previous,
}

/// A table that is to be published, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The flip that it commits; none if only the working generation's listeners have changed.
    pub flip: Option<Flip>,
}

/// A change of the working generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flip {
    /// The generation that was working.
    pub from: Option<GenerationId>,
    /// The one that will be.
    pub to: GenerationId,
    /// The count of flips once this one has committed.
    pub epoch: u64,
}

impl Service {
    /// Begins a flip. It is over when [`Self::commit`] or [`Self::abort`] has been called.
    ///
    /// # Errors
    /// Any reason not to; nothing has changed then.
    pub fn begin_flip(
        &mut self,
        target: &Target,
        if_epoch: Option<u64>,
    ) -> Result<Change, PlanError> {
        if self.committing.is_some() {
            return Err(PlanError::FlipInProgress);
        }
        if let Some(seen) = if_epoch.filter(|seen| *seen != self.epoch) {
            return Err(PlanError::EpochMoved {
                seen,
                now: self.epoch,
            });
        }
        let to = self.resolve(target)?;
        if self.working == Some(to.id) {
            return Err(PlanError::AlreadyWorking {
                name: to.name.clone(),
            });
        }
        if !to.can_work() {
            let why = match to.phase {
                Phase::Registered => "its server has not said that it is ready",
                Phase::Drained => "it has drained and its servers are closing",
                _ => "no process that is ready accepts for it",
            };
            return Err(PlanError::NotReady {
                name: to.name.clone(),
                why,
            });
        }
        for endpoint in self.working_endpoints() {
            if to.eligible(endpoint).is_empty() {
                let address = self.endpoints[endpoint as usize];
                return Err(PlanError::EndpointMissing {
                    name: to.name.clone(),
                    address,
                });
            }
        }
        let flip = Flip {
            from: self.working,
            to: to.id,
            epoch: self.epoch + 1,
        };
        let change = Change {
            table: self.table_of(to, flip.epoch),
            flip: Some(flip),
        };
        self.committing = Some(change.clone());
        Ok(change)
    }

    /// Begins to publish the working generation's listeners anew, if they are no longer the
    /// published ones: a process joined, left or died.
    ///
    /// A generation that nobody serves any more keeps its table: its listeners are held open, and
    /// new connections wait in them.
    pub fn begin_refresh(&mut self) -> Option<Change> {
        let working = self.working.and_then(|id| self.generation(id))?;
        let table = self.table_of(working, self.epoch);
        if self.committing.is_some() || self.published.as_ref() == Some(&table) {
            return None;
        }
        let leaves_out = self.published.as_ref().is_some_and(|published| {
            (0..MAX_ENDPOINTS).any(|e| table.slots(e).is_empty() && !published.slots(e).is_empty())
        });
        if leaves_out {
            return None;
        }
        let change = Change { table, flip: None };
        self.committing = Some(change.clone());
        Some(change)
    }

    /// The kernel follows the new table, and a grace period has passed.
    pub fn commit(&mut self) {
        let Some(change) = self.committing.take() else {
            return;
        };
        self.published = Some(change.table);
        let Some(flip) = change.flip else { return };
        self.epoch = flip.epoch;
        self.working = Some(flip.to);
        self.previous = flip.from;
        for generation in &mut self.generations {
            if generation.id == flip.to {
                generation.phase = Phase::Working;
            } else if Some(generation.id) == flip.from {
                generation.phase = Phase::Draining;
            }
        }
    }

    /// The new table was not published; all is as it was.
    pub fn abort(&mut self) {
        self.committing = None;
    }

    /// The generation that the flip which is being committed goes to.
    pub fn flipping_to(&self) -> Option<GenerationId> {
        let flip = self.committing.as_ref()?.flip.as_ref()?;
        Some(flip.to)
    }

    /// Whether the table that is being committed only replaces the working generation's own.
    pub fn is_refreshing(&self) -> bool {
        let change = self.committing.as_ref();
        change.is_some_and(|change| change.flip.is_none())
    }

    /// Nothing is pending on a draining generation any more.
    ///
    /// Kept, it can be rolled back to; otherwise its servers are to close. One that is just being
    /// flipped back to goes on draining: connections come to it before the flip is known to have
    /// committed.
    pub fn drained(&mut self, id: GenerationId, keep: bool) {
        if self.flipping_to() == Some(id) {
            return;
        }
        if let Some(generation) = self.generation_mut(id)
            && generation.phase == Phase::Draining
        {
            generation.phase = if keep { Phase::Standby } else { Phase::Drained };
            if !keep && self.previous == Some(id) {
                self.previous = None;
            }
        }
    }

    /// Forgets a generation that is not working: its servers are to close.
    ///
    /// # Errors
    /// [`PlanError::StillWorking`], [`PlanError::StillDraining`] unless forced, or there is no
    /// such generation.
    pub fn retire(&mut self, name: &str, force: bool) -> Result<GenerationId, PlanError> {
        let generation = self.named(name)?;
        let (id, phase, name) = (generation.id, generation.phase, generation.name.clone());
        if self.flipping_to() == Some(id) {
            return Err(PlanError::FlipInProgress);
        }
        match phase {
            Phase::Working => return Err(PlanError::StillWorking { name }),
            Phase::Draining if !force => return Err(PlanError::StillDraining { name }),
            _ => {}
        }
        if let Some(generation) = self.generation_mut(id) {
            generation.phase = Phase::Drained;
        }
        if self.previous == Some(id) {
            self.previous = None;
        }
        self.forget(id);
        Ok(id)
    }

    /// The newest generation other than the working one that can take connections.
    ///
    /// When the working generation has lost its last process, this is its successor.
    pub fn successor(&self) -> Option<&Generation> {
        let others = self
            .generations
            .iter()
            .rev()
            .filter(|g| Some(g.id) != self.working);
        others.into_iter().find(|generation| generation.can_work())
    }

    fn resolve(&self, target: &Target) -> Result<&Generation, PlanError> {
        match target {
            Target::Named(name) => self.named(name),
            Target::Previous => {
                let previous = self.previous.and_then(|id| self.generation(id));
                previous
                    .filter(|generation| generation.can_work())
                    .ok_or(PlanError::NoPrevious)
            }
            Target::Latest => {
                let newest =
                    self.generations.iter().rev().find(|generation| {
                        generation.can_work() || generation.phase == Phase::Working
                    });
                newest.ok_or(PlanError::NoneReady)
            }
        }
    }

    fn table_of(&self, generation: &Generation, epoch: u64) -> Table {
        let endpoints = 0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        let lists: Vec<_> = endpoints
            .map(|endpoint| generation.eligible(endpoint))
            .collect();
        Table::new(lists.iter().map(Vec::as_slice)).of(generation.id, epoch)
    }

    /// The endpoints that the working generation has listeners on.
    fn working_endpoints(&self) -> impl Iterator<Item = u32> {
        let published = self.published.as_ref();
        (0..MAX_ENDPOINTS)
            .filter(move |endpoint| published.is_some_and(|t| !t.slots(*endpoint).is_empty()))
    }
}
