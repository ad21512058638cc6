//! The matrix for people: a table for the terminal, and one in Markdown for the README.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::vm::{cases::Status, kernels::Kernels, report::OnKernel};

/// One column per kernel; one line per target, with its time, and one per test.
pub(crate) fn matrix(kernels: &[OnKernel]) -> Table {
    let mut table = plain();
    let mut header = vec![String::new()];
    header.extend(kernels.iter().map(|on| on.kernel.clone()));
    table.set_header(header);
    let mut versions = vec!["package".to_owned()];
    versions.extend(kernels.iter().map(|on| on.origin.version().to_owned()));
    table.add_row(versions);
    // All kernels have the same targets, in the same order.
    let targets = kernels
        .first()
        .map(|on| on.targets.as_slice())
        .unwrap_or_default();
    for (at, target) in targets.iter().enumerate() {
        let mut line = vec![target.name.clone()];
        line.extend(kernels.iter().map(|on| {
            let target = &on.targets[at];
            let verdict = if target.failures.is_empty() {
                "ok"
            } else {
                "FAILED"
            };
            format!("{verdict} {:.0} s", target.seconds)
        }));
        table.add_row(line);
        let all = kernels.iter().flat_map(|on| &on.targets[at].cases);
        let mut names: Vec<&str> = Vec::new();
        for case in all {
            if !names.contains(&case.name.as_str()) {
                names.push(&case.name);
            }
        }
        for name in names {
            // The modules that every test is in say nothing.
            let mut line = vec![format!("  {}", name.replace("tests::", ""))];
            line.extend(kernels.iter().map(|on| {
                {
                    let mut cases = on.targets[at].cases.iter();
                    match cases.find(|case| case.name == name).map(|case| case.status) {
                        Some(Status::Ok) => "ok",
                        Some(Status::Failed) => "FAILED",
                        Some(Status::Skipped) => "skipped",
                        Some(Status::Unfinished) => "UNFINISHED",
                        None => "-",
                    }
                }
                .to_owned()
            }));
            table.add_row(line);
        }
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
    let mut table = plain();
    let names = columns.iter().map(|(name, _)| *name);
    table.set_header(["kernel"].into_iter().chain(names));
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

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}
