//! Names of services and generations.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A service's or generation's name: 1 to 64 of `a-z A-Z 0-9 - _ . @ +`, starting with a letter or
/// digit. `v1.2.3`, a commit's 40 digits and `web@v1` are names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A string that is no [`Name`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: use 1 to {max} letters, digits, '-', '_', '.', '@' or '+', starting with a \
     letter or digit",
    max = Name::MAX
)]
pub struct InvalidName(String);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= Self::MAX && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            // A refusal quotes the name: keep what a peer can make it quote short.
            Err(InvalidName(text.chars().take(Self::MAX * 2).collect()))
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_call_their_releases_is_a_name() {
        for good in [
            "web",
            "gen1",
            "2026-11-20_a",
            "v1.2.3",
            "web@v1",
            "1.0.0-rc.1+build.5",
            "6a1f860d0c8f6b0c5e6f4a3b2c1d0e9f8a7b6c5d",
            &"x".repeat(64),
        ] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "-a",
            "_a",
            "a b",
            "é",
            &"x".repeat(65),
        ] {
            bad.parse::<Name>().unwrap_err();
        }
    }
}
