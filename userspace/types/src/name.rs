//! Names of services and generations.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A service's or generation's name: 1 to 32 of `a-z A-Z 0-9 - _`, starting with a letter or digit.
///
/// It becomes part of a path on bpffs, which allows neither dots nor slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A string that is no [`Name`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: use 1 to {max} letters, digits, '-' or '_', starting with a letter or digit",
    max = Name::MAX
)]
pub struct InvalidName(String);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
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
    fn names_are_safe_in_a_path() {
        for good in ["web", "gen1", "2026-11-20_a", &"x".repeat(32)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "a/b",
            "-a",
            "_a",
            "a b",
            "é",
            &"x".repeat(33),
        ] {
            bad.parse::<Name>().unwrap_err();
        }
    }
}
