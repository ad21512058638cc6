//! Promise, step by step: the agent dies between any two steps of its work, and nothing is lost,
//! forgotten or left behind.
//!
//! Nobody lists those steps: each setting is played once undisturbed, by an agent that logs the
//! points that it reaches, and then once for each death that [`cuts`] chooses among them.

mod cuts;
mod doomed;
mod settings;

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use synflip_agent::{DieAt, Point};
use synflip_bed::capability::is_slow;

use crate::helpers::at_once::at_once;

use {
    cuts::{Cut, for_each_pair, for_each_point},
    doomed::Rest,
    settings::Setting,
};

/// Deaths that are tried, where each takes some seconds.
const AT_MOST: usize = 60;

#[test]
fn wherever_the_agent_dies_nothing_is_lost_or_left_behind() -> Result<()> {
    let undisturbed = at_once(Setting::ALL.to_vec(), |setting| {
        let played = setting.play(None)?;
        Ok((setting, played))
    })?;
    let rests: Vec<_> = undisturbed.iter().map(|(s, p)| (*s, &p.rest)).collect();
    let windows = Setting::ALL.iter().map(|setting| {
        let played = undisturbed.iter().find(|(other, _)| other == setting);
        (*setting, played.map_or(&[][..], |(_, p)| &p.window))
    });
    let windows: Vec<_> = windows.collect();
    check_complete(&windows)?;
    let cuts = if is_slow() {
        for_each_point(&windows)
    } else {
        for_each_pair(&windows, AT_MOST)
    };
    let mut ends = at_once(cuts, |cut| {
        let end = dies_at(&cut, &rests);
        Ok((cut, end))
    })?;
    ends.sort_by_key(|(cut, _)| Setting::ALL.iter().position(|s| *s == cut.setting));
    report(&ends)
}

/// Plays a setting with a death, and compares what is left.
fn dies_at(cut: &Cut, rests: &[(Setting, &Rest)]) -> Result<()> {
    let rest = cut.setting.play(Some(cut.die_at))?.rest;
    let (_, undisturbed) = rests
        .iter()
        .find(|(setting, _)| *setting == cut.setting)
        .context("not played undisturbed")?;
    ensure!(
        rest == **undisturbed,
        "left is {rest:?} and not {undisturbed:?}"
    );
    Ok(())
}

/// Points that no setting leads to would not be tested without anybody's noticing.
fn check_complete(windows: &[(Setting, &[DieAt])]) -> Result<()> {
    let is_reached = |point: &Point| {
        let mut all = windows.iter().flat_map(|(_, window)| *window);
        all.any(|die_at| die_at.point == *point)
    };
    let missing: Vec<_> = Point::all().filter(|point| !is_reached(point)).collect();
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|p| !p.to_string().contains("barrier") && !p.to_string().contains("relay"))
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
