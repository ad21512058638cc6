//! Promise: a deploy is to start a unit, to flip, and nothing else: the old one ends by itself.

use anyhow::{Result, ensure};
use synflip_bed::{
    fixture::works,
    wait::{self, SOON},
};

use crate::machine::Machine;

#[test]
fn a_deploy_by_units_loses_nothing_and_the_old_unit_ends_by_itself() -> Result<()> {
    let machine = Machine::new()?;
    let first = machine.first("")?;
    let load = machine.net.load(8);
    load.more(50)?;
    let _second = machine.server(2, "")?;
    machine.until("v1 still works", |service| works(service, "v1"))?;
    machine.flip("v2")?;
    wait::until("the old unit ends", SOON, || {
        first
            .property("ActiveState")
            .is_ok_and(|state| state == "inactive")
    })?;
    let how = first.property("Result")?;
    ensure!(how == "success", "the old unit ended with {how}");
    load.more(50)?;
    let report = load.finish_unharmed()?;
    let by: Vec<u32> = report.by_generation.keys().copied().collect();
    ensure!(by == [1, 2], "{report:?}");
    ensure!(machine.net.answers(5)? == [2; 5], "others answer");
    // Of the old one nothing is kept.
    machine.until_stored(2)
}
