//! How bad can the kernel itself make a line? The queueing discipline netem, which delays, loses
//! and reorders what an interface sends.

use std::time::Duration;

/// What one end of a line does to the packets that it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Netem {
    /// How long each is held back.
    pub delay: Duration,
    /// By how much that differs from packet to packet.
    pub jitter: Duration,
    /// Probability that one is lost.
    pub loss: f64,
    /// Probability that one is not held back, and overtakes those that are.
    pub reorder: f64,
}

impl Netem {
    /// The payload of TCA_OPTIONS: `struct tc_netem_qopt`, then attributes (`linux/pkt_sched.h`,
    /// as `netem_change` reads them).
    pub(crate) fn options(&self) -> Vec<u8> {
        // With a gap, each packet has the chance to be sent at once.
        let gap = u32::from(self.reorder > 0.0);
        // The delays of the structure are in ticks; the attributes below replace them.
        let [latency, duplicate, jitter] = [0; 3];
        let qopt = [latency, LIMIT, share(self.loss), gap, duplicate, jitter];
        let mut options: Vec<u8> = qopt.into_iter().flat_map(u32::to_ne_bytes).collect();
        attribute(&mut options, LATENCY64, &nanoseconds(self.delay));
        attribute(&mut options, JITTER64, &nanoseconds(self.jitter));
        if gap > 0 {
            let correlation = 0;
            let reorder = [share(self.reorder), correlation].map(u32::to_ne_bytes);
            attribute(&mut options, REORDER, reorder.as_flattened());
        }
        options
    }
}

/// A probability as a share of all 32-bit numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "such a conversion saturates, and the range is that of a probability"
)]
fn share(probability: f64) -> u32 {
    (probability * f64::from(u32::MAX)) as u32
}

fn nanoseconds(duration: Duration) -> [u8; 8] {
    i64::try_from(duration.as_nanos())
        .unwrap_or(i64::MAX)
        .to_ne_bytes()
}

/// Adds a `struct nlattr` and its payload.
fn attribute(options: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
    options.extend(length.to_ne_bytes());
    options.extend(kind.to_ne_bytes());
    options.extend(payload);
    options.resize(options.len().next_multiple_of(4), 0);
}

/// Packets that wait at most: more than a test has on its way.
const LIMIT: u32 = 10_000;
const REORDER: u16 = 3;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_a_structure_and_aligned_attributes() {
        let netem = Netem {
            delay: Duration::from_millis(50),
            loss: 0.5,
            reorder: 1.0,
            ..Netem::default()
        };
        let options = netem.options();
        assert_eq!(options.len(), 24 + 12 + 12 + 12);
        assert_eq!(options[8..12], (u32::MAX / 2).to_ne_bytes());
        assert_eq!(options[12..16], 1_u32.to_ne_bytes());
        let delay = [12_u16.to_ne_bytes(), 10_u16.to_ne_bytes()];
        assert_eq!(options[24..28], *delay.as_flattened());
        assert_eq!(options[28..36], 50_000_000_i64.to_ne_bytes());
        assert_eq!(options[52..56], u32::MAX.to_ne_bytes());
        assert_eq!(Netem::default().options().len(), 24 + 12 + 12);
    }
}
