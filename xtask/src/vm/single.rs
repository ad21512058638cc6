//! One program in each machine: the demonstration, the soak.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use synflip_exchange::{End, Job};

use super::{
    console::Heard,
    initramfs,
    lab::{Lab, Machine, System},
    tables, write,
};
use crate::{options::take, program::Program};

/// Runs a program on the named kernels.
pub(crate) fn run_in(names: &[String], program: &Program, args: &[String]) -> Result<ExitCode> {
    // The file is this machine's, not the virtual one's.
    let (json, mut args) = take(args, "--json")?;
    add_defaults(&mut args, program.vm_defaults)?;
    let lab = Lab::open(names, &[])?;
    let deadline_s = (program.deadline_s)(&args, &lab.kernels)?;
    let mut runs = Vec::new();
    let mut success = true;
    for kernel in &lab.machines {
        println!(
            "== vm {}: Linux {} ({})",
            kernel.row.name,
            kernel.origin.release,
            kernel.origin.version()
        );
        let output = "/tmp/run.json";
        let job = Job {
            name: program.name.to_owned(),
            program: format!("{}/{}", initramfs::PROGRAMS, program.name).into(),
            args: args
                .iter()
                .cloned()
                .chain(["--json".to_owned(), output.to_owned()])
                .collect(),
            deadline: Duration::from_secs(deadline_s),
            output: Some(output.into()),
            ..Job::default()
        };
        let machine = Machine {
            kernel,
            system: System::Small,
            name: program.name,
        };
        let (story, _) = lab.boot(machine, vec![job], 1, &mut |heard| {
            if let Heard::Said(line) = heard {
                println!("{line}");
            }
        });
        for trouble in &story.troubles {
            eprintln!(
                "error: kernel {}: {}",
                kernel.row.name,
                trouble.join("\n    ")
            );
        }
        let ended = story.progress.ended.first().map(|(_, ended)| ended);
        let ok = ended.is_some_and(|ended| ended.end == End::Ok);
        success &= ok && story.troubles.is_empty();
        let data = ended.and_then(|ended| ended.output.as_deref());
        let data = match serde_json::from_str(data.unwrap_or_default()) {
            Ok(data) => data,
            Err(_) if !ok || args.iter().any(|arg| arg == "--help") => Value::Null,
            Err(error) => bail!("{} has written no JSON: {error}", program.name),
        };
        runs.push((kernel.row.name.clone(), data));
    }
    if runs.len() > 1 {
        println!("\n{}", tables::runs(program.columns, &runs));
    }
    if let Some(path) = json.last() {
        let document = match runs.as_slice() {
            [(_, run)] => run.clone(),
            _ => Value::Object(runs.into_iter().collect::<Map<_, _>>()),
        };
        write(Path::new(path), &serde_json::to_string_pretty(&document)?)?;
    }
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Adds the options that were not given.
fn add_defaults(args: &mut Vec<String>, defaults: &[(&str, &str)]) -> Result<()> {
    for (name, value) in defaults {
        if take(args, name)?.0.is_empty() {
            args.extend([(*name).to_owned(), (*value).to_owned()]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_overridden() {
        let with = |args: &[&str]| {
            let mut args = args.iter().map(ToString::to_string).collect();
            add_defaults(&mut args, &[("--baseline", "plain")]).unwrap();
            args
        };
        assert_eq!(with(&["--flips"]), ["--flips", "--baseline", "plain"]);
        assert_eq!(with(&["--baseline", "none"]), ["--baseline", "none"]);
        assert_eq!(with(&["--baseline=none"]), ["--baseline=none"]);
    }
}
