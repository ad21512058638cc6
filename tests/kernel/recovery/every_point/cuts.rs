//! Which deaths to try, of all those that an undisturbed run shows to be possible.

use std::{collections::HashSet, fmt, hash::Hash};

use synflip_agent::{DieAt, Point};
use synflip_plan::EffectKind;

use super::settings::Setting;

/// A death in a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) setting: Setting,
    pub(crate) die_at: DieAt,
    between: Pair,
}

/// What is the last that was done, and what would have been the next.
type Pair = (Option<Point>, Option<Point>);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |point: Option<Point>| point.map_or_else(|| "-".into(), |point| point.to_string());
        let (after, before) = (name(self.between.0), name(self.between.1));
        let Self {
            setting, die_at, ..
        } = self;
        write!(f, "{setting:?} --die-at={die_at} ({after}, {before})")
    }
}

/// A death at each point, and one between each two that follow each other anywhere; then between
/// those that do so in each setting, as far as there may be more.
pub(crate) fn for_each_pair(all: &[Cut], at_most: usize) -> Vec<Cut> {
    let mut cuts = for_each_point(all);
    choose(all, &mut cuts, |cut| cut.between);
    let needed = cuts.len();
    choose(all, &mut cuts, |cut| (cut.setting, cut.between));
    let mut more = cuts.split_off(needed);
    // Some of each setting.
    let mut counts = [0; Setting::ALL.len()];
    more.sort_by_cached_key(|cut| {
        let count = &mut counts[cut.setting as usize];
        *count += 1;
        *count
    });
    more.truncate(at_most.saturating_sub(needed));
    cuts.extend(more);
    cuts
}

/// A death at each point.
pub(crate) fn for_each_point(all: &[Cut]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    choose(all, &mut cuts, |cut| cut.die_at.point);
    cuts
}

/// Adds the first of each kind that is not there; if there is a choice, the first between two
/// points between which there is none yet.
fn choose<K: Eq + Hash>(all: &[Cut], cuts: &mut Vec<Cut>, kind: impl Fn(&Cut) -> K) {
    let mut kinds: HashSet<K> = cuts.iter().map(&kind).collect();
    let mut pairs: HashSet<Pair> = cuts.iter().map(|cut| cut.between).collect();
    for cut in all {
        if !kinds.contains(&kind(cut)) && pairs.insert(cut.between) {
            kinds.insert(kind(cut));
            cuts.push(*cut);
        }
    }
    cuts.extend(all.iter().filter(|cut| kinds.insert(kind(cut))));
}

/// Between two effects there are two ways to die: after the one, before the other. In the middle
/// of one there is none but at the points that it has.
///
/// `window` has all that was reached, in its order.
pub(crate) fn all(setting: Setting, window: &[DieAt]) -> Vec<Cut> {
    let (written, worked): (Vec<DieAt>, Vec<DieAt>) =
        window.iter().partition(|die_at| is_elsewhere(die_at.point));
    let point = |at: Option<usize>| at.and_then(|at| worked.get(at)).map(|at| at.point);
    let mut cuts = Vec::new();
    for at in 0..=worked.len() {
        let between = (point(at.checked_sub(1)), point(Some(at)));
        let before = worked.get(at);
        let after = at.checked_sub(1).and_then(|at| worked.get(at));
        let after = after.filter(|after| matches!(after.point, Point::After(_)));
        let before = before.filter(|before| !matches!(before.point, Point::After(_)));
        for die_at in after.into_iter().chain(before) {
            cuts.push(Cut {
                setting,
                die_at: *die_at,
                between,
            });
        }
    }
    cuts.extend(written.into_iter().map(|die_at| Cut {
        setting,
        die_at,
        between: (Some(die_at.point), None),
    }));
    cuts
}

/// Reached by what writes to a peer, while the service's thread goes on.
fn is_elsewhere(point: Point) -> bool {
    use EffectKind::{Answer, Lend, Tell};
    matches!(point, Point::After(Answer | Tell | Lend))
}
