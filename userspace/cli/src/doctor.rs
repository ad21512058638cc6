//! `doctor`: the agent's own checks, without an agent.

use anyhow::bail;
use std::{path::PathBuf, time::Duration};
use synflip_agent::{
    Config,
    doctor::{Verdict, examine},
};
use synflip_bpf::Object;

use crate::{args::DoctorArgs, exit::Done, render};

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Done> {
    let config = Config {
        socket: PathBuf::new(),
        bpffs: args.bpffs.clone(),
        metrics: None,
        hold: Duration::ZERO,
        object: Object::default(),
        tombstones: true,
        migration: true,
        die_at: None,
    };
    let report = examine(&config);
    if args.json {
        render::json(&report)?;
    } else {
        let rows = report.checks.iter().map(|check| {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Limited => "limited",
                Verdict::Missing => "MISSING",
            };
            vec![check.what.into(), verdict.into(), check.found.clone()]
        });
        let table = render::table(&["CHECK", "", "FOUND"], rows);
        render::out(&format!("Linux {}\n{table}", report.kernel))?;
    }
    if report.can_run() {
        Ok(Done::Fully)
    } else {
        bail!("the agent cannot run here")
    }
}
