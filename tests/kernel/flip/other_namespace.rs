//! Promise: nothing is lost on flips of servers in another network namespace than the agent's.

use anyhow::Result;
use synflip_bed::{Family, Setup};

use crate::helpers::restarts::Restarts;

#[test]
fn an_agent_in_another_namespace_loses_nothing() -> Result<()> {
    for family in Family::BOTH {
        Restarts {
            setup: Setup::new().family(family).agent_outside(),
            ..Restarts::new(family, 8)
        }
        .steered()?;
    }
    Ok(())
}
