//! Kernel modules: what a wanted one needs, and in which order they load.
//!
//! The packages carry no `modules.dep`, which is made on the machine that installs them; but each
//! module says itself what it needs.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A module, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// Not compressed, whatever the package has: not every kernel unpacks it by itself.
    pub(crate) image: Vec<u8>,
}

/// The wanted modules of a kernel and those that they need, each after its needs.
///
/// What is not there as a file is taken to be built in; the kernel's own list confirms it.
pub(crate) fn load(dir: &Path, wanted: &[String]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    list(dir, &mut files)?;
    let builtin = dir.with_file_name("modules.builtin");
    let builtin = fs::read_to_string(&builtin)
        .with_context(|| format!("cannot read {}", builtin.display()))?;
    let builtin: Vec<String> = builtin.lines().map(|line| name(Path::new(line))).collect();
    let mut images = BTreeMap::new();
    let order = order(wanted, &mut |module| {
        let Some(file) = files.get(module) else {
            ensure!(
                builtin.iter().any(|name| name == module),
                "there is no kernel module {module} in {}",
                dir.display()
            );
            return Ok(None);
        };
        let image = unpack(file).with_context(|| format!("cannot read {}", file.display()))?;
        let needs = needs(&image);
        images.insert(module.to_owned(), image);
        Ok(Some(needs))
    })?;
    let module = |name: String| {
        let image = images.remove(&name)?;
        Some(Module { name, image })
    };
    Ok(order.into_iter().filter_map(module).collect())
}

/// Each module once and after those that `needs` names for it; without those built in.
fn order(
    wanted: &[String],
    needs: &mut impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    fn visit(
        module: &str,
        path: &mut Vec<String>,
        done: &mut Vec<String>,
        needs: &mut impl FnMut(&str) -> Result<Option<Vec<String>>>,
    ) -> Result<()> {
        if done.iter().any(|name| name == module) {
            return Ok(());
        }
        ensure!(
            !path.iter().any(|name| name == module),
            "kernel module {module} needs itself"
        );
        let Some(below) = needs(module)? else {
            return Ok(());
        };
        path.push(module.to_owned());
        for need in &below {
            visit(need, path, done, needs)?;
        }
        path.pop();
        done.push(module.to_owned());
        Ok(())
    }
    let mut done = Vec::new();
    for module in wanted {
        visit(module, &mut Vec::new(), &mut done, needs)?;
    }
    Ok(done)
}

/// What a module needs: `depends=a,b` in its section `.modinfo`, each entry ended by a zero.
fn needs(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = image.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = image[at + KEY.len()..].split(|&byte| byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    let needs = value.split(',').filter(|need| !need.is_empty());
    needs.map(|need| need.replace('-', "_")).collect()
}

/// The files of modules under a directory, by name.
fn list(dir: &Path, into: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, into)?;
        } else {
            into.insert(name(&path), path);
        }
    }
    Ok(())
}

/// A module's name: its file's without the extensions, and with `_` for `-`.
fn name(file: &Path) -> String {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

fn unpack(file: &Path) -> Result<Vec<u8>> {
    let image = fs::read(file)?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(image),
        Some("xz") => {
            let mut unpacked = Vec::new();
            lzma_rust2::XzReader::new(image.as_slice(), false).read_to_end(&mut unpacked)?;
            Ok(unpacked)
        }
        _ => bail!("only .ko and .ko.xz are known; teach xtask/src/vm/modules.rs this one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(module: &str) -> Result<Option<Vec<String>>> {
        let needs: &[&str] = match module {
            "tcp_diag" | "udp_diag" => &["inet_diag"],
            "inet_diag" => &["netlink", "builtin"],
            "netlink" => &[],
            "builtin" => return Ok(None),
            "egg" => &["hen"],
            "hen" => &["egg"],
            _ => bail!("there is no kernel module {module}"),
        };
        Ok(Some(needs.iter().map(|&need| need.to_owned()).collect()))
    }

    fn order_of(wanted: &[&str]) -> Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|&module| module.to_owned()).collect();
        order(&wanted, &mut graph)
    }

    #[test]
    fn each_is_loaded_once_and_after_what_it_needs() {
        let order = order_of(&["tcp_diag", "udp_diag", "netlink"]).unwrap();
        assert_eq!(order, ["netlink", "inet_diag", "tcp_diag", "udp_diag"]);
    }

    #[test]
    fn a_missing_one_and_a_circle_are_errors() {
        assert!(
            order_of(&["netem"])
                .unwrap_err()
                .to_string()
                .contains("no kernel module netem")
        );
        assert!(
            order_of(&["egg"])
                .unwrap_err()
                .to_string()
                .contains("needs itself")
        );
    }

    #[test]
    fn what_it_needs_is_read_from_the_module() {
        let image = b"\x7fELF...\0license=GPL\0depends=nfnetlink,lib-crc32c\0retpoline=Y\0";
        assert_eq!(needs(image), ["nfnetlink", "lib_crc32c"]);
        assert!(needs(b"..\0depends=\0name=tun\0").is_empty());
        assert!(needs(b"").is_empty());
    }

    #[test]
    fn names_are_those_that_the_kernel_uses() {
        assert_eq!(name(Path::new("kernel/net/nf-tables.ko.xz")), "nf_tables");
    }
}
