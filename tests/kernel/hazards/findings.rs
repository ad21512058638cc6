//! What several looks at one hazard have found.

use anyhow::Result;

use crate::verdict::Verdict;

/// What was seen, as long as it is not as promised.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Takes down what was seen, unless the promise is kept.
    pub(crate) fn unless(&mut self, kept: bool, seen: impl Into<String>) {
        if !kept {
            self.0.push(seen.into());
        }
    }

    /// All of it.
    pub(crate) fn verdict(self) -> Result<Verdict> {
        Ok(if self.0.is_empty() {
            Verdict::Safe
        } else {
            Verdict::Seen(self.0.join("; "))
        })
    }
}
