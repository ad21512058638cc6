//! `vm-images/kernels.toml`: which kernels there are, and what each is declared to lack.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::cargo::root;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernels {
    /// Modules that tests use.
    pub(crate) modules: Vec<String>,
    /// Seconds that a job may take, by its name or a module that it is in; `default` for others.
    deadline_s: BTreeMap<String, u64>,
    /// Names of tests that nothing may run beside, or of modules of such.
    alone: Vec<String>,
    /// What a kernel may lack, and what it means.
    pub(crate) capabilities: BTreeMap<String, String>,
    /// The machine that the tests are started on.
    host: Host,
    /// The kernels, oldest first.
    #[serde(rename = "kernel")]
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    may_lack: Vec<String>,
}

/// One line of kernels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// What `--vm` calls it.
    pub(crate) name: String,
    /// The suite of Debian that has it.
    pub(crate) suite: String,
    /// Its releases, with a `*` for what differs between them.
    pub(crate) release: String,
    /// The packages to unpack; of each list the first that there is.
    pub(crate) packages: Vec<Vec<String>>,
    /// Capabilities that it does not have.
    pub(crate) lacks: Vec<String>,
}

impl Kernels {
    /// Reads the file of this checkout.
    pub(crate) fn load() -> Result<Self> {
        let path = root().join("vm-images/kernels.toml");
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is wrong", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let kernels: Self = toml::from_str(text)?;
        ensure!(
            kernels.deadline_s.contains_key("default"),
            "[deadline_s] needs a `default`"
        );
        let known = |lacks: &[String], whose: &str| -> Result<()> {
            match lacks
                .iter()
                .find(|c| !kernels.capabilities.contains_key(*c))
            {
                Some(name) => bail!(
                    "{whose} is said to lack {name:?}, which is not described in [capabilities]"
                ),
                None => Ok(()),
            }
        };
        known(&kernels.host.may_lack, "[host]")?;
        for (at, row) in kernels.rows.iter().enumerate() {
            let Row {
                name,
                release,
                packages,
                ..
            } = row;
            known(&row.lacks, &format!("kernel {name:?}"))?;
            ensure!(
                name != "all" && kernels.rows[..at].iter().all(|other| other.name != *name),
                "kernel {name:?}: the name is taken"
            );
            ensure!(
                release.matches('*').count() == 1,
                "kernel {name:?}: release {release:?} needs one `*` for what is to be the newest"
            );
            ensure!(
                packages
                    .iter()
                    .all(|list| !list.is_empty()
                        && list.iter().all(|package| package.contains("{}"))),
                "kernel {name:?}: every package needs a {{}} for the release"
            );
        }
        Ok(kernels)
    }

    /// The kernels of those names; all for none and for `all`.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<Row>> {
        if names.is_empty() || names.iter().any(|name| name == "all") {
            return Ok(self.rows.clone());
        }
        let known = || {
            let names: Vec<_> = self.rows.iter().map(|row| row.name.as_str()).collect();
            names.join(", ")
        };
        let find = |name: &String| {
            let row = self.rows.iter().find(|row| row.name == *name).cloned();
            row.with_context(|| {
                format!(
                    "there is no kernel {name:?}; vm-images/kernels.toml has {}, or all",
                    known()
                )
            })
        };
        names.iter().map(find).collect()
    }

    /// How long a job may take, in seconds: what is said of the innermost module that it is in.
    pub(crate) fn deadline_s(&self, job: &str) -> u64 {
        let own = self.deadline_s.iter().filter(|(name, _)| is_in(job, name));
        let own = own.max_by_key(|(name, _)| name.len()).map(|(_, s)| s);
        *own.or_else(|| self.deadline_s.get("default"))
            .expect("a file without a default is refused")
    }

    /// Whether a test floods or measures, so that nothing may run beside it.
    pub(crate) fn runs_alone(&self, test: &str) -> bool {
        self.alone.iter().any(|name| is_in(test, name))
    }

    /// Refuses names of tests that are to run alone and are not among the kernel tests any more.
    pub(crate) fn ensure_alone_exist(&self, tests: &[String]) -> Result<()> {
        for name in &self.alone {
            ensure!(
                tests.iter().any(|test| is_in(test, name)),
                "vm-images/kernels.toml has {name:?} run alone, and there is no such test"
            );
        }
        Ok(())
    }

    /// What this machine's own kernel may lack.
    pub(crate) fn host_may_lack(&self) -> &[String] {
        &self.host.may_lack
    }
}

/// Whether a test is the one of that name, or in the module of that name.
fn is_in(test: &str, name: &str) -> bool {
    test.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_checkout_is_right() {
        let kernels = Kernels::load().unwrap();
        let names: Vec<_> = kernels.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["5.10", "6.1", "6.12", "6.18", "7"]);
        assert!(kernels.rows[0].lacks.contains(&"migration".to_owned()));
        assert_eq!(kernels.deadline_s("synflip-run"), 1800);
        assert_eq!(kernels.deadline_s("synflip-runs"), 300);
        assert!(kernels.runs_alone("flip::commit::some_test"));
        assert!(!kernels.runs_alone("flip::committed::some_test"));
        let error = kernels.ensure_alone_exist(&["closing::a".to_owned()]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("\"contract::cost\""), "{error}");
    }

    #[test]
    fn a_name_that_is_not_there_is_refused_with_those_that_are() {
        let kernels = Kernels::load().unwrap();
        let error = kernels.select(&["5.11".to_owned()]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("5.10, 6.1, 6.12, 6.18, 7, or all"),
            "{error}"
        );
        assert_eq!(kernels.select(&["7".to_owned()]).unwrap().len(), 1);
        assert_eq!(kernels.select(&[]).unwrap().len(), 5);
    }

    #[test]
    fn mistakes_are_refused() {
        let good = r#"
            modules = []
            alone = []
            deadline_s = { default = 1 }
            capabilities = { migration = "moves" }
            host = { may_lack = [] }
            [[kernel]]
            name = "5.10"
            suite = "s"
            release = "5.10.*-amd64"
            packages = [["linux-image-{}"]]
            lacks = ["migration"]
        "#;
        assert_eq!(Kernels::parse(good).unwrap().rows.len(), 1);
        for (from, to, why) in [
            (r#"["migration"]"#, r#"["netem"]"#, "not described"),
            ("5.10.*-amd64", "5.10.2-amd64", "needs one `*`"),
            ("linux-image-{}", "linux-image", "needs a {}"),
            ("name = \"5.10\"", "name = \"all\"", "is taken"),
            ("{ default", "{ flip", "needs a `default`"),
            ("suite", "suit", "unknown field"),
        ] {
            let error = Kernels::parse(&good.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
