//! C2: who adopts a server, and not whoever runs it, owns the service.

use anyhow::{Result, ensure};
use synflip_bed::{Fixture, wait::SECOND};

use crate::{
    black_box::{Operate as _, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn c02_root_owns_what_root_adopts() -> Result<()> {
    hazard("C2", || {
        let fixture = Fixture::new()?;
        fixture.agent.admit_everybody()?;
        let _old = fixture.adopted(&fixture.spec(1, 2).uid(USER))?;
        let service = fixture.agent.wait_works("gen1")?;
        let owner = &service["owner_uid"];
        let next = fixture.start(&fixture.spec(2, 2).uid(USER));
        let refused = format!("belongs to uid {owner}; uid {USER} may not change it");
        if let Err(error) = &next
            && !format!("{error:#}").contains(&refused)
        {
            return next.map(|_| Verdict::Safe);
        }
        safe_if!(
            next.is_ok(),
            "a server of uid {USER} that root has adopted belongs to uid {owner}: the next \
             version is refused and does not start"
        );
        ensure!(ask(&fixture.net, 4, SECOND)?.lost() == 0, "nobody answers");
        Ok(Verdict::Safe)
    })
}

const USER: u32 = 1000;
