//! How two ends agree on what they speak.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The versions of the protocol that this release speaks. Version 1 had no hello.
pub const VERSIONS: Versions = Versions { min: 2, max: 2 };

/// The release from which on both ends say hello: what a refusal of an older one recommends.
pub const FIRST_WITH_HELLO: &str = "0.2.0";

/// What this release knows that not every release of the same version does.
///
/// `leaving`: the phase and the event of that name.
pub const FEATURES: &[&str] = &["leaving"];

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// Whether a version is one of these.
    pub const fn has(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The newest version that both speak.
    ///
    /// # Errors
    /// If there is none, the two ranges.
    pub fn agree(self, theirs: Self) -> Result<u16, NoCommonVersion> {
        let newest = self.max.min(theirs.max);
        if self.has(newest) && theirs.has(newest) {
            Ok(newest)
        } else {
            Err(NoCommonVersion { ours: self, theirs })
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max } = self;
        if min == max {
            write!(f, "version {min}")
        } else {
            write!(f, "versions {min} to {max}")
        }
    }
}

/// Two ends without a version that both speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this agent speaks {ours} of the control protocol and its peer {theirs}: upgrade the older one of \
     the two, and restart it"
)]
pub struct NoCommonVersion {
    /// What the agent speaks.
    pub ours: Versions,
    /// What its peer speaks.
    pub theirs: Versions,
}

/// What a peer says first: [`crate::Request::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions of the protocol that it speaks.
    pub versions: Versions,
    /// What it knows besides ([`FEATURES`]); words that the other end does not know mean nothing.
    #[serde(default)]
    pub features: Vec<String>,
    /// Its name and version, for people.
    #[serde(default)]
    pub program: String,
}

/// What the agent answers: [`crate::Reply::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that is spoken from now on: the newest that both know.
    pub version: u16,
    /// The versions of the protocol that the agent speaks.
    pub versions: Versions,
    /// The features that both have.
    #[serde(default)]
    pub features: Vec<String>,
    /// The agent's name and version, for people.
    #[serde(default)]
    pub program: String,
}

impl Hello {
    /// The hello of this release.
    pub fn new() -> Self {
        Self {
            versions: VERSIONS,
            features: FEATURES.iter().map(ToString::to_string).collect(),
            program: program(),
        }
    }

    /// What an agent of this release answers.
    ///
    /// # Errors
    /// If there is no version that both speak.
    pub fn welcome(&self) -> Result<Welcome, NoCommonVersion> {
        let both = |feature: &&&str| self.features.iter().any(|theirs| theirs == *feature);
        Ok(Welcome {
            version: VERSIONS.agree(self.versions)?,
            versions: VERSIONS,
            features: FEATURES
                .iter()
                .filter(both)
                .map(ToString::to_string)
                .collect(),
            program: program(),
        })
    }
}

impl Default for Hello {
    fn default() -> Self {
        Self::new()
    }
}

fn program() -> String {
    concat!("synflip ", env!("CARGO_PKG_VERSION")).to_owned()
}
