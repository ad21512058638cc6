//! What does the kernel under test lack, and is that known?
//!
//! `vm-images/kernels.toml` declares it for every kernel; a test that needs what is declared
//! missing skips itself with [`needs`]. What is missing and not declared fails.

use std::{env, fs, path::Path, process::Command, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use synflip_bpf::{Object, Steering, Variant};

use crate::{note, product::program};

/// True if the running kernel has the capability. Otherwise says that the test is skipped, and
/// why.
///
/// Its names are those of `[capabilities]` in `vm-images/kernels.toml`:
///
/// ```no_run
/// if synflip_bed::capability::needs("migration") {
///     // … test what migration does
/// }
/// ```
///
/// # Panics
///
/// If the kernel lacks it, that is not declared, and `CI=true`: there, a test which does not run
/// must not pass. Also when it cannot be found out.
#[must_use]
pub fn needs(capability: &str) -> bool {
    if has(capability).unwrap_or_else(|error| panic!("{capability}: {error:?}")) {
        return true;
    }
    let declared = declared_missing(capability);
    assert!(
        declared || env::var_os("CI").is_none_or(|ci| ci != "true"),
        "needs {capability}, which this kernel lacks, and vm-images/kernels.toml does not say so"
    );
    note(&format!("skipped: needs {capability}"));
    if let Some(file) = env::var_os("SYNFLIP_SKIPPED") {
        // Whoever runs the test reads it there: a test itself can only pass or fail.
        fs::write(file, capability).expect("a file for the reason of a skip can be written");
    }
    false
}

/// Whether a capability is declared missing: in a virtual machine for its kernel, elsewhere for
/// machines whose kernel nobody has chosen.
#[must_use]
pub fn declared_missing(capability: &str) -> bool {
    let lacks = env::var("SYNFLIP_KERNEL_LACKS").unwrap_or_default();
    lacks.split(',').any(|lacking| lacking == capability)
}

/// Finds out whether the running kernel has a capability, by trying it. Needs root.
///
/// # Errors
///
/// When it cannot be tried, or there is none of that name.
pub fn has(capability: &str) -> Result<bool> {
    static MIGRATION: OnceLock<bool> = OnceLock::new();
    static MIGRATION_WAKES: OnceLock<bool> = OnceLock::new();
    static EXPEDITED_COMMIT: OnceLock<bool> = OnceLock::new();
    match capability {
        "migration" => once(&MIGRATION, migration),
        "migration_wakes" => once(&MIGRATION_WAKES, migration_wakes),
        "expedited_commit" => once(&EXPEDITED_COMMIT, expedited_commit),
        "mptcp" => Ok(mptcp()),
        "netem" => netem(),
        _ => bail!("{capability:?} is no capability that anyone knows how to try"),
    }
}

/// The release of the running kernel.
#[must_use]
pub fn release() -> String {
    let system = rustix::system::uname();
    system.release().to_string_lossy().into_owned()
}

/// Whether this kernel is emulated: then everything takes ten times as long.
#[must_use]
pub fn is_slow() -> bool {
    env::var_os("SYNFLIP_SLOW").is_some()
}

/// How often to do something that is done `n` times on hardware: a tenth, rounded up, in an
/// emulated machine.
///
/// For repetitions that make a rare failure likely. Not for numbers that mean something, such as
/// the listeners that outgrow a group, nor for what a test needs to be a test.
#[must_use]
pub fn scaled(n: u32) -> u32 {
    if is_slow() { n.div_ceil(10) } else { n }
}

fn once(known: &OnceLock<bool>, find: fn() -> Result<bool>) -> Result<bool> {
    if let Some(has) = known.get() {
        return Ok(*has);
    }
    find().map(|has| *known.get_or_init(|| has))
}

fn migration() -> Result<bool> {
    let found = synflip_bpf::probe(&Object::default()).context("probe the kernel")?;
    Ok(found.variant == Variant::SelectOrMigrate)
}

/// What the product has found: its self-test moves a connection and waits for the event.
fn migration_wakes() -> Result<bool> {
    if !migration()? {
        return Ok(false);
    }
    let out = Command::new(program("synflip")?)
        .args(["doctor", "--json"])
        .output()
        .context("run synflip doctor")?;
    let report: serde_json::Value =
        serde_json::from_slice(&out.stdout).context("read the output of doctor --json")?;
    let checks = report["checks"].as_array().map(Vec::as_slice);
    let check = checks
        .unwrap_or_default()
        .iter()
        .find(|check| check["what"] == "migration");
    let check = check.with_context(|| format!("doctor says nothing of migration: {report}"))?;
    Ok(check["verdict"] == "ok")
}

/// Whether the grace period that a flip waits for is an expedited one.
fn expedited_commit() -> Result<bool> {
    let bpffs = Path::new(synflip_bpf::DEFAULT_BPFFS);
    synflip_bpf::prepare_bpffs(bpffs)?;
    let dir = bpffs.join(format!("synflip-capability-{}", std::process::id()));
    let (steering, mut publisher) = Steering::open(dir, Object::default(), Variant::Select)?;
    let waits: Result<Vec<Duration>, _> = (0..9).map(|_| publisher.barrier()).collect();
    steering.unpin()?;
    let mut waits = waits?;
    waits.sort();
    // An ordinary one lasts until every processor has had a tick: 4 ms at 250 Hz.
    Ok(waits[4] < Duration::from_millis(2))
}

/// Whether this kernel makes MPTCP sockets.
fn mptcp() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).is_ok()
}

/// Whether netem is loaded, or would be if a qdisc asked for it.
fn netem() -> Result<bool> {
    if Path::new("/sys/module/sch_netem").exists() {
        return Ok(true);
    }
    let release = release();
    let lists = ["modules.builtin", "modules.dep"]
        .map(|list| fs::read_to_string(format!("/lib/modules/{release}/{list}")));
    Ok(lists
        .iter()
        .flatten()
        .any(|list| list.contains("/sch_netem.ko")))
}
