//! Promise, step by step: the agent dies in the middle of each step of its work, and nothing is
//! lost, forgotten or left behind.

mod doomed;
mod settings;

use anyhow::{Context as _, Result, ensure};
use synflip_agent::{DieAt, Point};
use synflip_bed::capability::is_slow;
use synflip_plan::EffectKind;

use crate::helpers::at_once::at_once;

use settings::Setting;

/// Where each point is reached: in which setting, and for the how manieth time.
///
/// By the time a second generation comes, the first one has passed the points of a registration
/// and of a flip once, those of a listener twice.
fn places(point: Point) -> &'static [(Setting, u32)] {
    use Setting::{Back, Death, End, Flip, Founding, Joining, Retiring, Return, StoredFlip};
    let (Point::Before(kind) | Point::After(kind)) = point else {
        return match point {
            Point::Recovering | Point::Restored => &[(Return, 1)],
            Point::ListenersTaken => &[(Joining, 2), (Founding, 1)],
            _ => &[(Flip, 2), (Death, 2)],
        };
    };
    match kind {
        EffectKind::Fill => &[(Joining, 3), (Joining, 4), (Founding, 1)],
        EffectKind::Note => &[(Joining, 7), (Joining, 8), (Flip, 13), (Retiring, 11)],
        EffectKind::Attach => &[(Joining, 2), (Founding, 1)],
        EffectKind::Store => &[(Joining, 3), (Joining, 4)],
        EffectKind::Publish => &[(Flip, 2), (Death, 2)],
        EffectKind::Prepare => &[(Flip, 3), (Flip, 5)],
        EffectKind::Read => &[(Flip, 1), (Death, 1)],
        EffectKind::Keep | EffectKind::Fetch => &[(Return, 1)],
        EffectKind::Lend => &[(Death, 1), (Death, 2)],
        EffectKind::Clear | EffectKind::Close => &[(StoredFlip, 1), (Flip, 1), (Death, 2)],
        EffectKind::Answer => &[(Flip, 5)],
        EffectKind::Tell => &[(Flip, 2), (Back, 4)],
        EffectKind::End => &[(End, 1)],
        EffectKind::Barrier | EffectKind::Relay | EffectKind::Record | EffectKind::Wake => &[],
    }
}

/// Where nothing dies, and where the agent dies; in an emulated machine once per point.
fn cases() -> Result<Vec<(Setting, Option<DieAt>)>> {
    let mut cases = Vec::new();
    for point in Point::all() {
        let places = places(point);
        let places = if is_slow() {
            &places[..places.len().min(1)]
        } else {
            places
        };
        for (setting, nth) in places {
            cases.push((*setting, Some(format!("{point}:{nth}").parse()?)));
        }
    }
    for setting in Setting::ALL {
        cases.push((*setting, None));
    }
    Ok(cases)
}

#[test]
fn wherever_the_agent_dies_nothing_is_lost_or_left_behind() -> Result<()> {
    let ends = at_once(cases()?, |(setting, die_at)| {
        let rest = setting.play(die_at)?;
        Ok((setting, die_at, rest))
    })?;
    for (setting, die_at, rest) in &ends {
        let mut undisturbed = ends.iter().filter(|(_, die_at, _)| die_at.is_none());
        let (.., undisturbed) = undisturbed
            .find(|(other, ..)| other == setting)
            .with_context(|| format!("{setting:?}"))?;
        ensure!(
            rest == undisturbed,
            "{setting:?}, {die_at:?}: {rest:?} and not {undisturbed:?}"
        );
    }
    Ok(())
}
