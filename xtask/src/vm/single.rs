//! One program in each machine: the demonstration, the soak.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use synflip_exchange::{End, Job};

use super::{
    console::Heard,
    initramfs,
    lab::{Lab, Machine, System},
    tables, write,
};
use crate::program::Program;

/// Runs a program on the named kernels.
pub(crate) fn run_in(names: &[String], program: &Program, args: &[OsString]) -> Result<ExitCode> {
    let (mut args, json) = split_json(args)?;
    add_defaults(&mut args, program.vm_defaults);
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
    if let Some(path) = json {
        let document = match runs.as_slice() {
            [(_, run)] => run.clone(),
            _ => Value::Object(runs.into_iter().collect::<Map<_, _>>()),
        };
        write(&path, &serde_json::to_string_pretty(&document)?)?;
    }
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The arguments without `--json FILE`: the file is this machine's, not the virtual one's.
fn split_json(args: &[OsString]) -> Result<(Vec<String>, Option<PathBuf>)> {
    let (mut rest, mut json) = (Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg
            .to_str()
            .with_context(|| format!("{} is not UTF-8", arg.display()))?;
        if text == "--json" {
            json = Some(args.next().context("--json needs a file")?.into());
        } else if let Some(file) = text.strip_prefix("--json=") {
            json = Some(file.into());
        } else {
            rest.push(text.to_owned());
        }
    }
    Ok((rest, json))
}

/// Adds the options that were not given.
fn add_defaults(args: &mut Vec<String>, defaults: &[(&str, &str)]) {
    for (name, value) in defaults {
        let given = |arg: &String| {
            arg.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if !args.iter().any(given) {
            args.extend([(*name).to_owned(), (*value).to_owned()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_overridden() {
        let with = |args: &[&str]| {
            let mut args = args.iter().map(ToString::to_string).collect();
            add_defaults(&mut args, &[("--baseline", "plain")]);
            args
        };
        assert_eq!(with(&["--flips"]), ["--flips", "--baseline", "plain"]);
        assert_eq!(with(&["--baseline", "none"]), ["--baseline", "none"]);
        assert_eq!(with(&["--baseline=none"]), ["--baseline=none"]);
    }

    #[test]
    fn the_json_file_stays_here() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        let (rest, json) =
            split_json(&args(&["--flips", "3", "--json", "a b", "--rtt=1ms"])).unwrap();
        assert_eq!(rest, ["--flips", "3", "--rtt=1ms"]);
        assert_eq!(json, Some("a b".into()));
        let (rest, json) = split_json(&args(&["--json=f"])).unwrap();
        assert_eq!((rest.len(), json), (0, Some("f".into())));
        assert!(split_json(&args(&["--json"])).is_err());
    }
}
