//! The order in which listeners of one hash bucket are closed.
//!
//! A lookup walks a hash bucket and takes the first listener that matches; only then does it ask
//! that listener's reuseport group. `reuseport_detach_sock` takes a closing listener out of the
//! group before it leaves the bucket (5.10 to 7.3), so for a moment the *first* of the bucket,
//! and only the first, can be taken as the result itself: its SYN is dropped or answered by a
//! RST. `/proc/net/tcp{,6}` shows the bucket's order.

/// What to do with listeners that are no longer needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing<T> {
    /// Close these, in this order.
    pub(crate) close: Vec<T>,
    /// Keep this one as a tombstone: it is the first of its bucket.
    pub(crate) keep: Option<T>,
}

/// Sorts the unneeded listeners of one endpoint into those that may be closed and the one that
/// has to stay.
///
/// `bucket` has the endpoint's listeners that this agent holds, in the bucket's order; listeners
/// of others may stand between them but cannot be relied on. One that is `unneeded` but not in
/// the bucket has left it already (it was shut down) and may be closed. When every listener of
/// the endpoint is unneeded nothing is left to protect, and all may be closed.
pub(crate) fn close_order<T: Copy + PartialEq>(bucket: &[T], unneeded: &[T]) -> Closing<T> {
    let is_unneeded = |slot: &T| unneeded.contains(slot);
    let somebody_stays = bucket.iter().any(|slot| !is_unneeded(slot));
    let keep = bucket
        .first()
        .copied()
        .filter(|first| somebody_stays && is_unneeded(first));
    let gone = unneeded
        .iter()
        .copied()
        .filter(|slot| !bucket.contains(slot));
    // From the back, so that what is in front of each protects it to the last.
    let present = bucket.iter().rev().copied().filter(is_unneeded);
    Closing {
        close: gone
            .chain(present)
            .filter(|slot| Some(*slot) != keep)
            .collect(),
        keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_the_bucket_stays() {
        // IPv6 after a flip forward: the old generation, 1 and 2, is in front.
        let closing = close_order(&[1, 2, 3, 4], &[1, 2]);
        assert_eq!(
            closing,
            Closing {
                close: vec![2],
                keep: Some(1)
            }
        );
        // IPv4 after a flip forward: the new generation is in front.
        let closing = close_order(&[4, 3, 2, 1], &[1, 2]);
        assert_eq!(
            closing,
            Closing {
                close: vec![1, 2],
                keep: None
            }
        );
        // The next generation has come: on IPv4 it relieves the tombstone.
        assert_eq!(
            close_order(&[5, 4, 1], &[4]),
            Closing {
                close: vec![4],
                keep: None
            }
        );
    }

    #[test]
    fn the_last_of_a_service_all_go() {
        assert_eq!(
            close_order(&[1, 2], &[1, 2]),
            Closing {
                close: vec![2, 1],
                keep: None
            }
        );
        assert_eq!(
            close_order(&[2], &[1]),
            Closing {
                close: vec![1],
                keep: None
            }
        );
    }

    proptest! {
        #[test]
        fn no_close_ever_hits_the_first_while_one_is_needed(
            size in 0u32..12, needed in any::<u16>(), shut in any::<u16>(),
        ) {
            let has = |mask: u16, slot: u32| mask >> slot & 1 == 1;
            let unneeded: Vec<_> = (0..size).filter(|slot| !has(needed, *slot)).collect();
            let mut bucket: Vec<_> = (0..size)
                .filter(|slot| has(needed, *slot) || !has(shut, *slot)).collect();
            let protect = bucket.iter().any(|slot| !unneeded.contains(slot));
            let closing = close_order(&bucket, &unneeded);
            for slot in &closing.close {
                prop_assert!(unneeded.contains(slot));
                if protect {
                    prop_assert_ne!(bucket.first(), Some(slot));
                }
                bucket.retain(|other| other != slot);
            }
            let left = unneeded.iter().filter(|slot| !closing.close.contains(slot));
            prop_assert_eq!(left.copied().collect::<Vec<_>>(), Vec::from_iter(closing.keep));
        }
    }
}
