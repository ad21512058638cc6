//! Is the hazard there, and should it be?

use std::{env, fs};

use anyhow::{Result, ensure};
use synflip_bed::note;

use crate::open::OPEN;

/// What a test of a hazard has found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Clients, or the operator, are served as the promises have it.
    Safe,
    /// They are not: what was seen, in the words of the list.
    Seen(String),
}

/// Ends a test of a hazard with what was seen, unless the condition holds.
#[macro_export]
macro_rules! safe_if {
    ($holds:expr, $($seen:tt)+) => {
        if !$holds {
            return Ok($crate::verdict::Verdict::Seen(format!($($seen)+)));
        }
    };
}

/// Runs a test of the hazard with a number of the list, and compares what it finds with what is
/// known: a hazard that is [`OPEN`] has to be seen, any other must not be. Against the programs
/// of another commit (`cargo xtask test hazards --against COMMIT`) every one has to be seen.
pub(crate) fn hazard(number: &str, test: impl FnOnce() -> Result<Verdict>) -> Result<()> {
    let against = env::var_os("SYNFLIP_AGAINST").is_some();
    let expected = against || OPEN.contains(&number);
    let verdict = test()?;
    let seen = match &verdict {
        Verdict::Safe => "",
        Verdict::Seen(what) => what,
    };
    note(&format!("{number}: {verdict:?}"));
    if let Some(file) = env::var_os("SYNFLIP_VERDICT") {
        fs::write(file, seen)?;
    }
    match (verdict, expected) {
        (Verdict::Safe, false) | (Verdict::Seen(_), true) => Ok(()),
        (Verdict::Safe, true) => {
            ensure!(against, "{number} is mended: strike it off hazards/open.rs");
            anyhow::bail!("{number} was not seen in those programs")
        }
        (Verdict::Seen(what), false) => anyhow::bail!("{number} is back: {what}"),
    }
}
