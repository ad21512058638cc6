//! Debian's kernels: which is the newest of a line, and where its files are once unpacked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{apt::PrivateApt, vm::kernels::Row};

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) row: Row,
    pub(crate) origin: Origin,
    /// What QEMU boots.
    pub(crate) image: PathBuf,
    /// The directory of its modules.
    pub(crate) modules: PathBuf,
}

/// What was taken of Debian.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Origin {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// The packages, with their versions.
    pub(crate) packages: Vec<(String, String)>,
}

impl Origin {
    /// The version of the packages: it has the point release, which the release may not.
    pub(crate) fn version(&self) -> &str {
        self.packages.first().map_or("", |(_, version)| version)
    }
}

impl Kernel {
    /// Downloads the newest kernel of a row, unless it is here already.
    pub(crate) fn provide(row: &Row, dir: &Path) -> Result<Self> {
        let kernels = dir.join("kernels");
        let cached = kernels.join(&row.name).join("origin.json");
        let origin = match Archive::open(row, dir).and_then(|archive| archive.fetch(row, &kernels))
        {
            Ok(origin) => origin,
            // Without a network yesterday's kernel is better than none.
            Err(error) if cached.exists() => {
                eprintln!(
                    "warning: no news of kernel {}: {error:#}; using the last one",
                    row.name
                );
                read(&cached)?
            }
            Err(error) => return Err(error).with_context(|| format!("kernel {}", row.name)),
        };
        let root = kernels.join(&row.name).join("root");
        let release = &origin.release;
        let first = |places: [String; 3]| {
            let mut places = places.iter().map(|place| root.join(place));
            places.find(|place| place.exists())
        };
        let image = first([
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
            format!("usr/lib/modules/{release}/vmlinuz.unsigned"),
        ]);
        let modules = first([
            format!("usr/lib/modules/{release}/kernel"),
            format!("lib/modules/{release}/kernel"),
            String::from("nowhere"),
        ]);
        let missing = |what| {
            format!("the packages of kernel {release} have no {what}; have they been split again?")
        };
        Ok(Self {
            row: row.clone(),
            image: image.with_context(|| missing("vmlinuz"))?,
            modules: modules.with_context(|| missing("modules"))?,
            origin,
        })
    }
}

/// The packages of a suite.
struct Archive {
    apt: PrivateApt,
    names: Vec<String>,
}

impl Archive {
    fn open(row: &Row, dir: &Path) -> Result<Self> {
        let apt = PrivateApt::new(&row.suite, dir.join("apt").join(&row.suite))?;
        let names = apt.names("linux-")?;
        Ok(Self { apt, names })
    }

    /// Unpacks the newest kernel of a row into a directory of its own, once.
    fn fetch(&self, row: &Row, kernels: &Path) -> Result<Origin> {
        let (release, packages) = newest(row, &self.names).with_context(|| {
            format!(
                "{} has no packages {:?} of a kernel {}",
                row.suite, row.packages, row.release
            )
        })?;
        let mut versions = Vec::new();
        for package in packages {
            let Some(version) = self.apt.newest(&package, "")? else {
                bail!("{} lists {package} without a version", row.suite);
            };
            versions.push((package, version));
        }
        let origin = Origin {
            release,
            packages: versions,
        };
        let dir = kernels.join(&row.name);
        let stamp = dir.join("origin.json");
        if stamp.exists() && read(&stamp)? == origin {
            return Ok(origin);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        let root = dir.join("root");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        for (package, version) in &origin.packages {
            eprintln!("fetching {package} {version} of {}", row.suite);
            self.apt.unpack(package, version, &root)?;
        }
        // Last: whoever finds it finds everything.
        fs::write(&stamp, serde_json::to_vec_pretty(&origin)?)
            .with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(origin)
    }
}

fn read(stamp: &Path) -> Result<Origin> {
    let text = fs::read(stamp).with_context(|| format!("cannot read {}", stamp.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not mine", stamp.display()))
}

/// The newest release of which all packages are there, and their names.
fn newest(row: &Row, names: &[String]) -> Option<(String, Vec<String>)> {
    let (before, after) = row.release.split_once('*')?;
    let mut found: Vec<(Vec<u64>, String, Vec<String>)> = Vec::new();
    for template in row.packages.first()? {
        let (head, tail) = template.split_once("{}")?;
        for name in names {
            let release = name
                .strip_prefix(head)
                .and_then(|name| name.strip_suffix(tail));
            let differs = release
                .and_then(|release| release.strip_prefix(before))
                .and_then(|release| release.strip_suffix(after));
            let (Some(release), Some(differs)) = (release, differs) else {
                continue;
            };
            // Each list's first package that there is; no kernel without one of each.
            let here = |list: &Vec<String>| {
                let mut all = list.iter().map(|template| template.replace("{}", release));
                all.find(|package| names.contains(package))
            };
            // What begins with a letter is another flavour, such as -rt.
            if differs.starts_with(|c: char| c.is_ascii_digit())
                && let Some(packages) = row.packages.iter().map(here).collect()
            {
                found.push((numbers(differs), release.to_owned(), packages));
            }
        }
    }
    let (_, release, packages) = found.into_iter().max()?;
    Some((release, packages))
}

/// The numbers in a version, which order it: `90+deb13.1` is 90, 13, 1.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(release: &str, packages: &[&[&str]]) -> Row {
        let list = |list: &&[&str]| list.iter().map(|&p| p.to_owned()).collect();
        Row {
            name: "x".into(),
            suite: "s".into(),
            release: release.into(),
            packages: packages.iter().map(list).collect(),
            lacks: vec![],
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_newest_is_by_number_and_of_the_plain_flavour() {
        let row = row("6.12.*-cloud-amd64", &[&["linux-image-{}"]]);
        let names = names(&[
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.90+deb13-cloud-amd64",
            "linux-image-6.12.90+deb13.1-cloud-amd64",
            "linux-image-6.12.90+deb13.1-cloud-amd64-dbg",
            "linux-image-6.12.95+deb13-cloud-amd64-unsigned",
            "linux-image-6.13.1+deb13-cloud-amd64",
            "linux-image-6.12.99+deb13-amd64",
        ]);
        let (release, packages) = newest(&row, &names).unwrap();
        assert_eq!(release, "6.12.90+deb13.1-cloud-amd64");
        assert_eq!(packages, ["linux-image-6.12.90+deb13.1-cloud-amd64"]);
    }

    #[test]
    fn a_split_kernel_needs_one_package_of_each_kind() {
        let packages: [&[&str]; 2] = [
            &["linux-binary-{}", "linux-binary-unsigned-{}"],
            &["linux-modules-{}"],
        ];
        let row = row("7.*-cloud-amd64", &packages);
        let mut all = names(&[
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-binary-unsigned-7.2.12+deb13-cloud-amd64",
            "linux-modules-7.2.12+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
        ]);
        let (release, packages) = newest(&row, &all).unwrap();
        assert_eq!(release, "7.2.12+deb13-cloud-amd64");
        assert_eq!(packages[0], "linux-binary-7.2.12+deb13-cloud-amd64");
        all.push("linux-modules-7.3.4+deb13-cloud-amd64".into());
        let (_, packages) = newest(&row, &all).unwrap();
        assert_eq!(packages[0], "linux-binary-unsigned-7.3.4+deb13-cloud-amd64");
    }

    #[test]
    fn nothing_that_matches_is_no_kernel() {
        let row = row("5.10.0-*-cloud-amd64", &[&["linux-image-{}"]]);
        assert_eq!(
            newest(&row, &names(&["linux-image-6.1.0-50-cloud-amd64"])),
            None
        );
    }
}
