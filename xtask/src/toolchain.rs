//! What stable Rust lacks to build for the BPF target: bpf-linker and the source of `core`.
//!
//! Both are provided under `target/toolchain/`. The user's toolchain and cargo's home are only
//! read; what the user already has of rust-src and LLVM is used.

use std::{
    env, fmt, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    apt::{self, PrivateApt},
    cargo::{cargo, quietly, run, target_dir},
};

/// The versions that the bytes of the object depend on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Versions {
    /// First line of `rustc --version`.
    pub(crate) rustc: String,
    /// Version of bpf-linker.
    pub(crate) bpf_linker: String,
    /// Version of the LLVM that bpf-linker is linked with.
    pub(crate) llvm: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rustc,
            bpf_linker,
            llvm,
        } = self;
        write!(f, "{rustc}, bpf-linker {bpf_linker}, LLVM {llvm}")
    }
}

/// Everything that building for the BPF target takes.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) versions: Versions,
    pub(crate) linker: PathBuf,
    /// Where LLVM's tools are.
    pub(crate) llvm_bin: PathBuf,
    pub(crate) core: CoreSource,
}

/// The source of the core library of exactly this rustc.
#[derive(Debug)]
pub(crate) struct CoreSource {
    /// The sysroot that contains it.
    sysroot: PathBuf,
    /// A rustc that takes that for its sysroot, if it is not the user's own.
    rustc: Option<PathBuf>,
}

/// The toolchain, or why the source of `core` cannot be had for this rustc.
#[derive(Debug)]
pub(crate) enum Provided {
    Complete(Toolchain),
    NoCoreSource(anyhow::Error),
}

impl Toolchain {
    /// Provides what is missing. Takes a minute or two the first time, well under a second later.
    pub(crate) fn provide() -> Result<Provided> {
        let (dir, rustc) = (dir()?, Rustc::find()?);
        let core = match rustc.core_source(&dir) {
            Ok(core) => core,
            Err(why) => return Ok(Provided::NoCoreSource(why)),
        };
        let llvm = llvm(&rustc)?;
        let linker = bpf_linker(&dir, &llvm)?;
        let llvm_bin = llvm.join("bin");
        let versions = Versions {
            rustc: rustc.version,
            bpf_linker: BPF_LINKER.to_owned(),
            llvm: quietly(Command::new(llvm_bin.join("llvm-config")).arg("--version"))?,
        };
        Ok(Provided::Complete(Self {
            versions,
            linker,
            llvm_bin,
            core,
        }))
    }
}

impl CoreSource {
    /// Provides only this; enough to check sources, and it takes no root.
    pub(crate) fn provide() -> Result<Self> {
        Rustc::find()?.core_source(&dir()?)
    }

    /// Tells a cargo command to build `core` from this source.
    pub(crate) fn apply(&self, command: &mut Command) {
        // The BPF target and -Zbuild-std are not stable; the compiler is.
        command.env("RUSTC_BOOTSTRAP", "1");
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
            // Clippy's driver does not run rustc, it is one.
            command.env("SYSROOT", &self.sysroot);
        }
    }

    /// The directory of the source, as the compiler spells it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.sysroot.join(RUST_SRC)
    }
}

/// The user's compiler.
#[derive(Debug)]
struct Rustc {
    sysroot: PathBuf,
    version: String,
    release: String,
    llvm_major: u32,
}

impl Rustc {
    fn find() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let verbose = quietly(Command::new(&rustc).arg("-vV"))?;
        let field = |name: &str| {
            let value = verbose.lines().find_map(|line| line.strip_prefix(name));
            value.with_context(|| format!("rustc -vV has no line {name:?}"))
        };
        let llvm = field("LLVM version: ")?;
        Ok(Self {
            sysroot: quietly(Command::new(&rustc).args(["--print", "sysroot"]))?.into(),
            version: verbose.lines().next().unwrap_or_default().to_owned(),
            release: field("release: ")?.to_owned(),
            llvm_major: llvm
                .split('.')
                .next()
                .and_then(|major| major.parse().ok())
                .with_context(|| format!("rustc names an odd LLVM version: {llvm}"))?,
        })
    }

    fn core_source(&self, dir: &Path) -> Result<CoreSource> {
        if self
            .sysroot
            .join(RUST_SRC)
            .join("library/core/Cargo.toml")
            .exists()
        {
            return Ok(CoreSource {
                sysroot: self.sysroot.clone(),
                rustc: None,
            });
        }
        let dir = dir.join(format!("rust-src-{}", self.release));
        let (sysroot, rustc) = (dir.join("sysroot"), dir.join("rustc"));
        let source = dir.join(format!("usr/src/rustc-{}/library", self.release));
        // Written last, and bound to the two places that the links and the script name.
        let made_for = format!("{}\n{}\n", self.sysroot.display(), dir.display());
        let mark = dir.join("complete");
        if fs::read_to_string(&mark).is_ok_and(|seen| seen == made_for) {
            return Ok(CoreSource {
                sysroot,
                rustc: Some(rustc),
            });
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        self.fetch_source(&dir)?;
        ensure!(
            source.exists(),
            "Debian's rust-src has no {}",
            source.display()
        );
        self.mirror_sysroot(&sysroot, &source)
            .with_context(|| format!("cannot make links in {}", sysroot.display()))?;
        let script = format!(
            "#!/bin/sh\nexec '{}/bin/rustc' --sysroot '{}' \"$@\"\n",
            self.sysroot.display(),
            sysroot.display()
        );
        fs::write(&rustc, script)
            .and_then(|()| fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::write(&mark, made_for))
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        Ok(CoreSource {
            sysroot,
            rustc: Some(rustc),
        })
    }

    /// Debian has the same source, in several versions.
    fn fetch_source(&self, into: &Path) -> Result<()> {
        eprintln!(
            "fetching the source of core {} from Debian {SUITE}",
            self.release
        );
        let cure = format!("`rustup component add rust-src` or Rust {RUST} provides it");
        let apt = PrivateApt::new(SUITE, into.join("apt")).context(cure.clone())?;
        let Some(version) = apt.newest("rust-src", &format!("{}+", self.release))? else {
            bail!("Debian {SUITE} has no rust-src {}; {cure}", self.release);
        };
        apt.unpack("rust-src", &version, into)
    }

    /// Makes a directory like the sysroot, of links, with the source where cargo looks for it.
    fn mirror_sysroot(&self, sysroot: &Path, source: &Path) -> Result<()> {
        for inner in ["", "lib", "lib/rustlib"] {
            fs::create_dir_all(sysroot.join(inner))?;
            for entry in fs::read_dir(self.sysroot.join(inner))? {
                let entry = entry?;
                let link = sysroot.join(inner).join(entry.file_name());
                // `lib` and `lib/rustlib` become directories of their own, for the next rounds.
                if !["lib", "lib/rustlib"]
                    .iter()
                    .any(|own| link == sysroot.join(own))
                {
                    symlink(entry.path(), link)?;
                }
            }
        }
        fs::create_dir_all(sysroot.join(RUST_SRC))?;
        symlink(source, sysroot.join(RUST_SRC).join("library"))?;
        Ok(())
    }
}

fn dir() -> Result<PathBuf> {
    let dir = target_dir()?.join("toolchain");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// LLVM's installation prefix.
fn llvm(rustc: &Rustc) -> Result<PathBuf> {
    // bpf-linker reads the compiler's bitcode, which an older LLVM may not understand.
    ensure!(
        rustc.llvm_major <= LLVM_MAJOR,
        "{} comes with LLVM {}, newer than the {LLVM_MAJOR} that bpf-linker {BPF_LINKER} is built \
         with here; use Rust {RUST}, or raise the versions in xtask/src/toolchain.rs",
        rustc.version,
        rustc.llvm_major
    );
    if let Some(prefix) = env::var_os("LLVM_PREFIX") {
        return Ok(prefix.into());
    }
    apt::install(LLVM_PACKAGES, "bpf-linker")?;
    let prefix = PathBuf::from(DEBIAN_LLVM);
    ensure!(
        prefix.join("bin/llvm-config").exists(),
        "LLVM {LLVM_MAJOR} is not in {DEBIAN_LLVM}; set LLVM_PREFIX to where it is installed"
    );
    Ok(prefix)
}

fn bpf_linker(dir: &Path, llvm: &Path) -> Result<PathBuf> {
    let root = dir.join(format!("bpf-linker-{BPF_LINKER}"));
    let linker = root.join("bin/bpf-linker");
    // It is started, not only looked for: a removed libLLVM shows here.
    let version = quietly(Command::new(&linker).arg("--version"));
    if version.is_ok_and(|version| version == format!("bpf-linker {BPF_LINKER}")) {
        return Ok(linker);
    }
    eprintln!("building bpf-linker {BPF_LINKER}, about a minute");
    let features = format!("llvm-{LLVM_MAJOR}");
    let mut install = cargo();
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
            "--quiet",
        ])
        .args(["--no-default-features", "--features", &features, "--root"])
        .arg(&root)
        // llvm-sys reads the one, bpf-linker's own build script the other.
        .env("LLVM_SYS_221_PREFIX", llvm)
        .env("LLVM_PREFIX", llvm)
        .env_remove("CARGO_TARGET_DIR");
    run(&mut install).context("cannot build bpf-linker")?;
    Ok(linker)
}

const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
const RUST_SRC: &str = "lib/rustlib/src/rust";
const SUITE: &str = "trixie-backports";

const BPF_LINKER: &str = "0.13.0";
const LLVM_MAJOR: u32 = 22;
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const LLVM_PACKAGES: &[&str] = &[
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "libxml2-dev",
    "libffi-dev",
];
