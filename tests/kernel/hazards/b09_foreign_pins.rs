//! B9: something else among the pins keeps the agent from starting.

use std::{fs, os::unix::fs::symlink};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use synflip_bed::Fixture;

use crate::{
    black_box::{Operate as _, first},
    safe_if,
    verdict::{Verdict, hazard},
};

#[test]
fn b09_a_symlink_or_a_directory_among_the_pins_keeps_the_agent_from_starting() -> Result<()> {
    hazard("B9", || {
        for link in [true, false] {
            let mut fixture = Fixture::new()?;
            let _server = first(&fixture, &[])?;
            let service = find_dir(fixture.agent.bpffs(), "web").context("no pins of web")?;
            fixture.agent.kill(Signal::KILL)?;
            let services = service.parent().context("a directory is in another")?;
            if link {
                symlink("/nowhere", services.join("other")).context("make a symlink")?;
            } else {
                let other = services.join("other");
                fs::create_dir(&other).context("make a directory")?;
                fs::create_dir(other.join("TABLES")).context("make a directory")?;
            }
            let back = fixture.restart_agent();
            let log = fixture.agent.log();
            safe_if!(
                back.is_ok(),
                "{} among the pins, and the agent ends: {}",
                if link {
                    "a symlink"
                } else {
                    "a directory named TABLES"
                },
                log.lines().last().unwrap_or_default()
            );
            let status = fixture.agent.tried(&["status"])?;
            anyhow::ensure!(status.code == 0, "{status:?}");
        }
        Ok(Verdict::Safe)
    })
}

/// The directory of a name below another.
fn find_dir(under: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = fs::read_dir(under).ok()?;
    let dirs = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path())
    });
    dirs.into_iter().find_map(|dir| {
        if dir.file_name()? == name {
            Some(dir)
        } else {
            find_dir(&dir, name)
        }
    })
}
