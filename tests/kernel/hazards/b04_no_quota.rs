//! B4: one user's connections lock everybody out.

use std::{os::unix::net::UnixStream, thread};

use anyhow::{Context as _, Result, anyhow};
use rustix::{process::Uid, thread::set_thread_res_uid};
use synflip_bed::{Fixture, product::NOBODY};

use crate::{
    black_box::Operate as _,
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b04_no_quota_by_uid() -> Result<()> {
    hazard("B4", || {
        let fixture = Fixture::new()?;
        let socket = fixture.agent.socket();
        fixture.agent.admit_everybody()?;
        let idle = thread::scope(|scope| {
            let crowd = scope.spawn(|| -> Result<Vec<UnixStream>> {
                let nobody = Uid::from_raw(NOBODY);
                // The system call is about this thread alone.
                set_thread_res_uid(nobody, nobody, nobody).context("become nobody")?;
                let connect = |_| UnixStream::connect(&socket).context("connect");
                (0..CONNECTIONS).map(connect).collect()
            });
            crowd.join().map_err(|_panic| anyhow!("panicked"))?
        })?;
        let status = fixture.agent.tried(&["status"])?;
        safe_if!(
            status.code == 0,
            "{} idle connections of nobody, and root is told: {}",
            idle.len(),
            status.stderr.trim()
        );
        Ok(Verdict::Safe)
    })
}

/// More than an agent serves.
const CONNECTIONS: usize = 1100;
