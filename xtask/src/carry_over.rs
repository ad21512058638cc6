//! `cargo xtask test carry-over`: this tree's agent takes over from that of 0.1.0.

use std::env;

use anyhow::{Context as _, Result, ensure};

use crate::{
    against,
    binaries::{Binaries, TestProgram},
    host,
    tally::{Counts, Outcome, Report},
    test::at_a_time,
};

/// Runs the tests whose names contain one of these, or all.
pub(crate) fn run(only: &[String]) -> Result<Report> {
    if against::hash(RELEASE)?.is_none() {
        let lacks = format!(
            "this clone does not have the commit of 0.1.0, {RELEASE}: `git fetch --unshallow` gets it"
        );
        // There, what does not run must not pass.
        ensure!(env::var_os("CI").is_none_or(|ci| ci != "true"), lacks);
        println!("skipped: {lacks}");
        return Ok(skipped());
    }
    let old = against::programs(RELEASE, &["synflip", "synflip-server"])?;
    let program = TestProgram::CarryOver;
    let built = Binaries::build(&[program])?;
    let utf8 = "a path is not UTF-8";
    let env = [
        ("SYNFLIP_BIN_DIR", built.dir()?.to_str().context(utf8)?),
        ("SYNFLIP_OLD_BIN_DIR", old.to_str().context(utf8)?),
    ];
    let tests = host::run(built.test(program)?, &env, only, at_a_time(program))?;
    Ok(Report::whole(NAME, &tests))
}

fn skipped() -> Report {
    Report::from(Outcome {
        name: NAME.to_owned(),
        counts: Counts {
            skipped: 1,
            ..Counts::default()
        },
        success: true,
        seconds: 0.0,
    })
}

const NAME: &str = "carry-over";
/// 0.1.0, the release before.
const RELEASE: &str = "57151814536e3478dbfe6868ff1623f3b6ba6de8";
