//! The matrix for people: a table for the terminal, and one in Markdown for the README.

use comfy_table::Table;
use serde_json::Value;

use crate::{
    cases::{TestRun, Verdict},
    tally::plain,
    vm::{kernels::Kernels, report::OnKernel},
};

/// One column per kernel; one line per group of tests, with its time, and one per test.
pub(crate) fn matrix(kernels: &[OnKernel]) -> Table {
    let mut header = vec![String::new()];
    header.extend(kernels.iter().map(|on| on.kernel.clone()));
    let mut table = plain(header);
    let mut versions = vec!["package".to_owned()];
    versions.extend(kernels.iter().map(|on| on.origin.version().to_owned()));
    table.add_row(versions);
    // All kernels have the same tests, in the same order.
    let tests = kernels.first().map(|on| on.tests.as_slice());
    let mut last = None;
    for (at, test) in tests.unwrap_or_default().iter().enumerate() {
        let group = test.group();
        if last.replace(group) != Some(group) {
            let mut line = vec![group.to_owned()];
            line.extend(kernels.iter().map(|on| whole_group(on, group)));
            table.add_row(line);
        }
        let name = test.name.strip_prefix(group).unwrap_or(&test.name);
        let mut line = vec![format!("  {}", name.trim_start_matches("::"))];
        line.extend(kernels.iter().map(|on| match on.tests[at].verdict {
            Verdict::Ok => format!("{:.1}", on.tests[at].seconds),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::Skipped => "skipped".to_owned(),
        }));
        table.add_row(line);
    }
    let mut whole = vec!["machine".to_owned()];
    whole.extend(kernels.iter().map(|on| {
        let verdict = if on.troubles.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        format!("{verdict} {:.0} s, {}", on.seconds, on.accelerator)
    }));
    table.add_row(whole);
    table
}

/// Whether all of a group passed, and their seconds together.
fn whole_group(on: &OnKernel, group: &str) -> String {
    let tests = || on.tests.iter().filter(|test| test.group() == group);
    let verdict = if tests().any(TestRun::failed) {
        "FAILED"
    } else {
        "ok"
    };
    format!(
        "{verdict} {:.0} s",
        tests().map(|test| test.seconds).sum::<f64>()
    )
}

/// One line per kernel: what it can do, and what passed on it.
pub(crate) fn markdown(kernels: &[OnKernel], declared: &Kernels) -> String {
    let mut text = String::from("| Linux | Debian package |");
    for capability in declared.capabilities.keys() {
        text.push_str(&format!(" {} |", capability.replace('_', " ")));
    }
    text.push_str(" tests |\n| --- | --- |");
    text.push_str(&" :-: |".repeat(declared.capabilities.len()));
    text.push_str(" --- |\n");
    for on in kernels {
        text.push_str(&format!("| {} | {} |", on.kernel, on.origin.version()));
        for capability in declared.capabilities.keys() {
            text.push_str(if on.lacks.contains(capability) {
                " no |"
            } else {
                " yes |"
            });
        }
        let counts = on.counts();
        text.push_str(&format!(" {} passed", counts.passed));
        for (count, what) in [(counts.skipped, "skipped"), (counts.failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(" |\n");
    }
    for (capability, meaning) in &declared.capabilities {
        text.push_str(&format!(
            "\n- *{}*: the kernel {meaning}.",
            capability.replace('_', " ")
        ));
    }
    text.push('\n');
    text
}

/// Runs of one program side by side, from their JSON: a column's name, and where its value is.
pub(crate) fn runs(columns: &[(&str, &str)], runs: &[(String, Value)]) -> Table {
    let names = columns.iter().map(|(name, _)| *name);
    let mut table = plain(["kernel"].into_iter().chain(names));
    for (kernel, run) in runs {
        let number = |path: &str| match run.pointer(path) {
            Some(Value::Number(number)) if number.is_f64() => {
                format!("{:.2}", number.as_f64().unwrap_or_default())
            }
            Some(Value::Number(number)) => number.to_string(),
            _ => "-".to_owned(),
        };
        let values = columns.iter().map(|(_, path)| number(path));
        table.add_row([kernel.clone()].into_iter().chain(values));
    }
    table
}
