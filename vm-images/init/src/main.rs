//! PID 1 of a virtual machine: makes a small Linux system, runs what `/plan.json` says, and
//! powers off.
//!
//! What happens goes to the second serial port, one [`Event`] a line; the first is the kernel's.
//! Nothing here may end the process: the kernel would panic and hide why.
//!
//! Where systemd is PID 1, this is one of its services, and only runs the plan and powers off.

#![forbid(unsafe_code)]

mod port;
mod reaper;
mod system;

use std::{fs, panic, path::Path, process, sync::LazyLock};

use anyhow::{Context as _, Result};
use synflip_exchange::{Direct, Event, Job, Plan, Wait, all, run};

use port::Port;
use reaper::Reaper;

fn main() {
    let ended = panic::catch_unwind(|| {
        if is_init() {
            system::mount_all()?;
        }
        let port = Port::open()?;
        if let Err(error) = work(&port) {
            let why = format!("{error:#}");
            port.tell(&Event::Failed { why })?;
        }
        port.close()
    });
    // The console is all that is left to tell it.
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => system::console(&format!("synflip-init: {error:#}")),
        Err(_panic) => system::console("synflip-init: panicked"),
    }
    system::power_off();
}

fn work(port: &Port) -> Result<()> {
    static REAPER: LazyLock<Reaper> = LazyLock::new(Reaper::default);
    port.tell(&Event::Booted)?;
    if is_init() {
        system::prepare()?;
    }
    let plan = fs::read("/plan.json").context("read /plan.json")?;
    let plan: Plan = serde_json::from_slice(&plan).context("understand /plan.json")?;
    for module in &plan.modules {
        system::load_module(module)?;
    }
    let wait: &dyn Wait = if is_init() {
        REAPER.start();
        &*REAPER
    } else {
        &Direct
    };
    let told = all(&plan.jobs, plan.at_a_time, |job| {
        one(job, &plan, wait, port)
    });
    told.into_iter().collect::<Result<()>>()?;
    port.tell(&Event::Done)
}

fn one(job: &Job, plan: &Plan, wait: &dyn Wait, port: &Port) -> Result<()> {
    let name = || job.name.clone();
    port.tell(&Event::Started { job: name() })?;
    let mut told = Ok(());
    let say = |line| {
        let said = port.tell(&Event::Said { job: name(), line });
        if told.is_ok() {
            told = said;
        }
    };
    let ended = run(job, &plan.env, Path::new("/tmp"), wait, say);
    told?;
    port.tell(&Event::Ended { job: name(), ended })
}

/// Whether this is PID 1, and has to do what otherwise systemd has done.
fn is_init() -> bool {
    process::id() == 1
}
