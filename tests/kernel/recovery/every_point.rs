//! Promise, step by step: the agent dies between any two steps of its work, and nothing is lost,
//! forgotten or left behind.
//!
//! Nobody lists those steps: each setting is played once undisturbed, by an agent that logs the
//! points that it reaches, and then once for each death that [`cuts`] chooses among them.

mod cuts;
mod doomed;
mod settings;

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use synflip_agent::Point;
use synflip_bed::capability::is_slow;

use crate::helpers::at_once::at_once;

use {
    cuts::{Cut, for_each_pair, for_each_point},
    doomed::Rest,
    settings::Setting,
};

/// Deaths that are tried, where each takes some seconds, if those that have to be are fewer.
const AT_MOST: usize = 75;

/// A death that does not come because all goes faster or slower than before is tried so often.
const TRIES: u32 = 3;

#[test]
fn wherever_the_agent_dies_nothing_is_lost_or_left_behind() -> Result<()> {
    // What comes twice is sure to come again.
    let twice = Setting::ALL.iter().flat_map(|setting| [*setting; 2]);
    let undisturbed = at_once(twice, |setting| {
        let played = setting.play(None)?;
        Ok((setting, cuts::all(setting, &played.window), played.rest))
    })?;
    let (mut possible, mut rests) = (Vec::new(), Vec::new());
    for setting in Setting::ALL {
        let mut its = undisturbed.iter().filter(|(other, ..)| other == setting);
        let once = its.next().context("not played")?;
        let again = its.next().context("not played again")?;
        ensure!(
            once.2 == again.2,
            "{setting:?} left {:?}, then {:?}",
            once.2,
            again.2
        );
        possible.extend(in_both(&once.1, &again.1));
        rests.push((*setting, &once.2));
    }
    check_complete(&possible)?;
    let cuts = if is_slow() {
        for_each_point(&possible)
    } else {
        for_each_pair(&possible, AT_MOST)
    };
    let mut ends = at_once(cuts, |cut| Ok((cut, dies_at(&cut, &rests))))?;
    ends.sort_by_key(|(cut, _)| cut.setting as usize);
    report(&ends)
}

/// The deaths that are possible in two runs; where a point was reached in both, and never between
/// the same two others, those of the first.
fn in_both<'a>(once: &'a [Cut], again: &[Cut]) -> Vec<&'a Cut> {
    let (mut both, rest): (Vec<_>, Vec<_>) = once.iter().partition(|cut| again.contains(cut));
    let has = |cuts: &[&Cut], point| cuts.iter().any(|cut| cut.die_at.point == point);
    let reached = |cut: &&Cut| again.iter().any(|other| other.die_at == cut.die_at);
    let missing = rest.into_iter().filter(reached);
    let missing: Vec<_> = missing
        .filter(|cut| !has(&both, cut.die_at.point))
        .collect();
    both.extend(missing);
    both
}

/// Plays a setting with a death, and compares what is left.
fn dies_at(cut: &Cut, rests: &[(Setting, &Rest)]) -> Result<()> {
    let mut its = rests.iter().filter(|(setting, _)| *setting == cut.setting);
    let (_, undisturbed) = its.next().context("not played undisturbed")?;
    for _ in 0..TRIES {
        let played = cut.setting.play(Some(cut.die_at))?;
        ensure!(
            played.rest == **undisturbed,
            "left is {:?} and not {undisturbed:?}",
            played.rest
        );
        if !played.missed {
            return Ok(());
        }
    }
    bail!("it was not reached in {TRIES} runs")
}

/// A point that no setting leads to would be left out without anybody's noticing.
fn check_complete(possible: &[Cut]) -> Result<()> {
    let is_reached = |point: &Point| possible.iter().any(|cut| cut.die_at.point == *point);
    let missing: Vec<_> = Point::all()
        .filter(|point| !is_reached(point))
        .map(|point| point.to_string())
        .collect();
    ensure!(missing.is_empty(), "no setting reaches {missing:?}");
    Ok(())
}

/// What failed, and all that was tried.
fn report(ends: &[(Cut, Result<()>)]) -> Result<()> {
    let (mut tried, mut failed) = (String::new(), String::new());
    for (cut, end) in ends {
        match end {
            Ok(()) => writeln!(tried, "  {cut}")?,
            Err(error) => {
                writeln!(tried, "  {cut}: FAILED")?;
                writeln!(failed, "{cut}: {error:#}\n")?;
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "{failed}All {} that were tried:\n{tried}",
        ends.len()
    );
    Ok(())
}
