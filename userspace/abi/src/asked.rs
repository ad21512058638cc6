//! Asking one listener that no table selects: a health check of a generation that does not work
//! yet.

/// One entry of the `ASKED` map: connections from this port of the endpoint's own address go to
/// this slot, whatever the table says.
///
/// At most one for each endpoint, and 0 in the map if there is none, which is all that the program
/// looks at then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The client's port; not 0.
    pub port: u16,
    /// The slot that is asked.
    pub slot: u16,
}

impl Asked {
    /// The word that is stored in the map.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        (self.port as u32) << 16 | self.slot as u32
    }

    /// Reads it back; none if nobody is asked.
    #[inline(always)]
    pub const fn unpack(word: u32) -> Option<Self> {
        if word == 0 {
            return None;
        }
        Some(Self {
            port: (word >> 16) as u16,
            slot: (word & 0xffff) as u16,
        })
    }
}

// A slot's number fits.
const _: () = assert!(crate::MAX_SLOTS <= 1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_packing() {
        for (port, slot) in [(1, 0), (u16::MAX, u16::MAX), (40_000, 4095)] {
            let asked = Asked { port, slot };
            assert_eq!(Asked::unpack(asked.pack()), Some(asked));
        }
        assert_eq!(Asked::unpack(0), None);
    }
}
