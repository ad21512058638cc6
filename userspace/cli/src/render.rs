//! What goes to stdout and stderr.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::exit::Done;

/// Prints text as it is.
pub(crate) fn out(text: &str) -> anyhow::Result<Done> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(Done::Fully)
}

/// Prints one JSON document.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<Done> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    out(&text)
}

/// Prints an error.
pub(crate) fn complain(text: &str) {
    // There is nobody left to tell if that fails.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Shows how far something has come, in place, if a person is looking.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        drop(write!(io::stderr(), "\r\x1b[K{text}"));
    }
}

/// A table with a header, indented by one space.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt() + "\n"
}

/// A count, or a dash where it is not known.
pub(crate) fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| count.to_string())
}

/// Milliseconds as people read them.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{}.{:02} s", ms / 1000, ms % 1000 / 10),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// Whether a command failed only because nobody reads its output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (7, "7 ms"),
            (1050, "1.05 s"),
            (63_000, "63.00 s"),
            (180_000, "3 min"),
            (86_400_000, "24 h"),
            (864_000_000, "10 days"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
