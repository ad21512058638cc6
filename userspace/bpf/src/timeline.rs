//! What has happened to a service, kept in the kernel for the agent that comes after.

use aya::maps::{Array, MapData};
use synflip_abi::{MAX_MOMENTS, Member, Moment, TIMELINE};

use crate::BpfError;

/// The ring of a service's events.
pub(crate) struct Timeline {
    map: Array<MapData, [u64; Moment::WORDS]>,
    /// The number of the last event; none as long as nobody has looked.
    last: Option<u64>,
}

impl Timeline {
    pub(crate) fn new(map: Array<MapData, [u64; Moment::WORDS]>) -> Self {
        Self { map, last: None }
    }

    /// All that is remembered, oldest first.
    pub(crate) fn moments(&self) -> Result<Vec<Moment>, BpfError> {
        let mut moments = Vec::new();
        for index in 0..MAX_MOMENTS {
            let words = self.map.get(&index, 0);
            let words = words.map_err(BpfError::map("reading", TIMELINE))?;
            moments.extend(Moment::unpack(&words));
        }
        moments.sort_by_key(|moment| moment.number);
        Ok(moments)
    }

    pub(crate) fn append(
        &mut self,
        at_ms: u64,
        generation: &str,
        text: &str,
    ) -> Result<(), BpfError> {
        let last = match self.last {
            Some(last) => last,
            None => self.moments()?.last().map_or(0, |last| last.number),
        };
        let number = last.wrapping_add(1).max(1);
        let moment = Moment {
            number,
            at_ms,
            generation: Member::name_bytes(generation),
            text: Moment::text_bytes(text),
        };
        let index = u32::try_from(number % u64::from(MAX_MOMENTS)).unwrap_or(0);
        let written = self.map.set(index, moment.pack(), 0);
        written.map_err(BpfError::map("writing", TIMELINE))?;
        self.last = Some(number);
        Ok(())
    }
}
