//! Can this process run it here? If not, what is missing, and what helps?

use std::{fs::File, io::ErrorKind, process::Command};

use anyhow::Result;
use synflip_bpf::{Object, Privilege};

use super::Failure;
use synflip_bed::product::program;

/// Makes sure that nothing is missing.
///
/// # Errors
///
/// [`Failure::Cannot`] with what is missing, and the cure.
pub(super) fn missing(command: &str, needs_tun: bool) -> Result<()> {
    let cannot = |text| Err(Failure::Cannot(text).into());
    let lacks: Vec<String> = Privilege::ALL
        .into_iter()
        .filter(|privilege| !privilege.is_held())
        .map(|privilege| privilege.to_string())
        .collect();
    if !lacks.is_empty() && !rustix::process::geteuid().is_root() {
        return cannot(format!("needs root: sudo {command}"));
    }
    if !lacks.is_empty() {
        return cannot(format!(
            "root without {}, as in a container; run it on the host, or with --privileged",
            lacks.join(", ")
        ));
    }
    for name in ["synflip", "synflip-server", "synflip-load"] {
        if let Err(error) = program(name) {
            return cannot(error.to_string());
        }
    }
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    if let Err(error) = tun
        && needs_tun
    {
        let cure = if error.kind() == ErrorKind::NotFound {
            "load the driver with: modprobe tun"
        } else {
            "in a container, allow it with: --device /dev/net/tun"
        };
        return cannot(format!("cannot open /dev/net/tun ({error}); {cure}"));
    }
    if let Err(error) = synflip_bpf::probe(&Object::default()) {
        let cause = anyhow::Error::new(error);
        return cannot(format!("BPF is refused: {cause:#}\n{}", doctor()));
    }
    Ok(())
}

/// What `synflip doctor` says.
fn doctor() -> String {
    let output = program("synflip").and_then(|path| {
        let output = Command::new(path).arg("doctor").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    match output {
        Ok(text) => format!("synflip doctor says:\n{text}"),
        Err(error) => format!("and synflip doctor cannot be asked: {error:#}"),
    }
}
