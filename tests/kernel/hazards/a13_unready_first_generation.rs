//! A13: the first generation takes connections before it is ready.

use anyhow::{Result, ensure};
use synflip_bed::Fixture;

use crate::{
    black_box::{PATIENCE, ask},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn a13a_an_unready_first_generation_takes_connections() -> Result<()> {
    hazard("A13a", || {
        let fixture = Fixture::new()?;
        let _first = fixture.start(&fixture.spec(1, 2).arg("--never-ready"))?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.by.is_empty(),
            "of 20 clients {} are answered by a generation that is not ready",
            answers.by.len()
        );
        Ok(Verdict::Safe)
    })
}

#[test]
fn a13b_an_unready_first_generation_hangs_connections() -> Result<()> {
    hazard("A13b", || {
        let fixture = Fixture::new()?;
        let _plain = fixture.net.plain(&fixture.spec(9, 2))?;
        let before = ask(&fixture.net, 20, PATIENCE)?;
        ensure!(before.from(9) == 20, "{before:?}");
        let unready = ["--never-ready", "--stop-accepting"];
        let _first = fixture.start(&fixture.spec(1, 2).args(&unready))?;
        let answers = ask(&fixture.net, 20, PATIENCE)?;
        safe_if!(
            answers.from(9) == 20,
            "a plain server accepts beside a first generation that is not ready: of 20 clients {} \
             hang on that",
            answers.lost()
        );
        Ok(Verdict::Safe)
    })
}
