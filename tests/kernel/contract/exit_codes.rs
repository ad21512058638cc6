//! The contract of the command line: what scripts rely on, and how the agent starts, stops, idles.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use synflip_bed::product::{Cli, program};

use bed::{Bed, SOON, answers};

#[path = "bed.rs"]
mod bed;

#[path = "contract/agent.rs"]
mod agent;
#[path = "contract/cost.rs"]
mod cost;

const COMMANDS: [&str; 7] = [
    "agent",
    "status",
    "flip",
    "rollback",
    "retire",
    "doctor",
    "completions",
];

#[test]
fn every_way_to_end_has_its_exit_code() -> Result<()> {
    let bed = Bed::new()?;
    let first = bed.first(&["--stop-accepting"])?;
    let _second = bed.generation(2, &[])?;
    let code = |args: &[&str], expected: i32| -> Result<Cli> {
        let cli = bed.agent.cli(args)?;
        ensure!(
            cli.code == expected,
            "{args:?} ended with {}, not {expected}: {cli:?}",
            cli.code
        );
        Ok(cli)
    };
    code(&["status"], 0)?;
    for refused in [
        &["flip", "--to", "gen7"][..],
        &["rollback"],
        &["status", "mail"],
    ] {
        code(refused, 1)?;
    }
    let usage = [
        &[][..],
        &["flop"],
        &["flip"],
        &["flip", "--to", "a/b"],
        &["flip", "--to", "gen2", "--timeout", "soon"],
        &["retire"],
        &["status", "--json", "--watch"],
        &["completions", "basic"],
    ];
    for args in usage {
        let cli = code(args, 2)?;
        ensure!(
            cli.stdout.is_empty() && cli.stderr.contains("--help"),
            "{args:?}: {cli:?}"
        );
    }
    for args in [
        &["status"][..],
        &["flip", "--to", "gen2"],
        &["rollback"],
        &["status", "--json"],
    ] {
        let elsewhere = [args, &["--socket", "/nowhere/agent.sock"]].concat();
        let cli = code(&elsewhere, 3)?;
        let cure = "no agent at /nowhere/agent.sock";
        ensure!(
            cli.stderr.contains(cure) && cli.stderr.contains("synflip agent"),
            "{cli:?}"
        );
        ensure!(cli.stdout.is_empty(), "{cli:?}");
    }

    // Committed, and the deadline passes: what is left is told and goes on draining.
    let queued = bed.clients(4)?;
    let late = code(&["flip", "--to", "gen2", "--timeout", "1", "--json"], 4)?;
    let late = document(&late)?;
    ensure!(late["flip"]["to"] == "gen2", "{late}");
    ensure!(late["drain"]["end"] == "deadline-passed", "{late}");
    let left = |listener: &Value| listener["steps"][0]["queued"].as_u64();
    let listeners = late["drain"]["listeners"].as_array().context("listeners")?;
    ensure!(
        listeners.iter().map(left).sum::<Option<u64>>() == Some(4),
        "{late}"
    );
    first.signal(Signal::USR1)?;
    ensure!(answers(queued)? == [1; 4], "other answers");
    first.wait_exit(SOON)?;
    Ok(())
}

#[test]
fn json_is_one_document_and_errors_go_to_stderr() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let second = bed.generation(2, &[])?;
    let done = |args: &[&str]| -> Result<Value> {
        let cli = bed.agent.cli(args)?;
        ensure!(cli.code == 0 && cli.stderr.is_empty(), "{args:?}: {cli:?}");
        document(&cli).with_context(|| format!("{args:?}"))
    };
    let status = done(&["status", "--json"])?;
    ensure!(status["services"][0]["working"] == "gen1", "{status}");
    ensure!(
        done(&["status", "web", "--json"])? == status,
        "another status"
    );
    let flip = done(&["flip", "--to", "gen2", "--keep", "--json"])?;
    ensure!(
        flip["flip"]["epoch"] == 2 && flip["drain"]["end"] == "standby",
        "{flip}"
    );
    let back = done(&["rollback", "--no-wait", "--keep", "--json"])?;
    ensure!(
        back["flip"]["to"] == "gen1" && back["drain"].is_null(),
        "{back}"
    );
    bed.until("gen2 has drained", |service| {
        bed::find(service, "gen2").is_some_and(|g| g.phase == synflip_wire::Phase::Standby)
    })?;
    let retired = done(&["retire", "--generation", "gen2", "--json"])?;
    ensure!(retired["retired"] == "gen2", "{retired}");
    second.wait_exit(SOON)?;
    for refused in [
        &["flip", "--to", "gen7", "--json"][..],
        &["status", "mail", "--json"],
    ] {
        let cli = bed.agent.cli(refused)?;
        ensure!(
            cli.code == 1 && cli.stdout.is_empty(),
            "{refused:?}: {cli:?}"
        );
        ensure!(
            cli.stderr.starts_with("synflip: ") && cli.stderr.lines().count() == 1,
            "{cli:?}"
        );
    }
    Ok(())
}

#[test]
fn help_is_complete_and_completions_are_there() -> Result<()> {
    let help = help(&[])?;
    for command in COMMANDS {
        ensure!(
            help.contains(&format!(" {command} ")),
            "{command} is not in {help}"
        );
    }
    ensure!(
        help.contains("Exit codes: 0 done; 1 refused or failed"),
        "{help}"
    );
    let defaults = [
        ("agent", "30"),
        ("agent", "/sys/fs/bpf"),
        ("flip", "120"),
        ("rollback", "120"),
        ("doctor", "/sys/fs/bpf"),
    ];
    let socket = COMMANDS.map(|command| (command, "/run/synflip/agent.sock"));
    for (command, default) in defaults.into_iter().chain(socket) {
        let own = self::help(&[command])?;
        ensure!(
            own.contains(&format!("[default: {default}]")),
            "no {default} in {own}"
        );
    }
    let shells = [
        ("bash", "complete -F"),
        ("zsh", "#compdef synflip"),
        ("fish", "complete -c"),
    ];
    for (shell, word) in shells {
        let script = run(Command::new(program("synflip")?).args(["completions", shell]))?;
        ensure!(script.code == 0 && script.stderr.is_empty(), "{script:?}");
        let complete = COMMANDS
            .iter()
            .all(|command| script.stdout.contains(command));
        ensure!(
            complete && script.stdout.contains(word),
            "{shell}: {script:?}"
        );
    }
    Ok(())
}

/// What `--help` says, wherever it breaks its lines.
fn help(command: &[&str]) -> Result<String> {
    let mut synflip = Command::new(program("synflip")?);
    let cli = run(synflip
        .args(command)
        .arg("--help")
        .env_remove("SYNFLIP_SOCKET"))?;
    ensure!(cli.code == 0 && cli.stderr.is_empty(), "{cli:?}");
    let words: Vec<&str> = cli.stdout.split_whitespace().collect();
    Ok(words.join(" "))
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() -> Result<()> {
    let bed = Bed::new()?;
    let _first = bed.first(&[])?;
    let status = [
        &["status"][..],
        &["status", "--json"],
        &["status", "--timeline"],
    ];
    let others = [
        &["completions", "bash"][..],
        &["flip", "--help"],
        &["status", "--watch"],
    ];
    for args in status.into_iter().chain(others) {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = bed.agent.command(args)?;
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn()?;
        // The command still holds the writing end.
        drop(command);
        let cli = Cli::from(child.wait_with_output()?);
        ensure!(cli.code == 0 && cli.stderr.is_empty(), "{args:?}: {cli:?}");
    }
    Ok(())
}

#[test]
fn doctor_says_what_is_there_and_what_is_missing() -> Result<()> {
    let bed = Bed::new()?;
    let doctor = bed.netns.run(|| {
        run(bed
            .agent
            .command(&["doctor", "--json"])?
            .stdin(Stdio::null()))
    })?;
    ensure!(doctor.code == 0 && doctor.stderr.is_empty(), "{doctor:?}");
    let report = document(&doctor)?;
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    ensure!(report["kernel"] == release.as_str(), "{report}");
    let checks = report["checks"].as_array().context("checks")?;
    ensure!(checks.len() >= 6, "{report}");
    for check in checks {
        let verdict = check["verdict"].as_str().context("a verdict")?;
        ensure!(["ok", "limited"].contains(&verdict), "{check}");
        ensure!(
            check["what"].is_string() && check["found"].is_string(),
            "{check}"
        );
    }
    let plain = bed
        .netns
        .run(|| run(&mut bed.agent.command(&["doctor"])?))?;
    ensure!(
        plain.code == 0 && plain.stdout.contains(&release),
        "{plain:?}"
    );
    ensure!(!plain.stdout.contains("MISSING"), "{plain:?}");

    let missing = agent::as_nobody(bed.agent.command(&["doctor", "--json"])?)?;
    ensure!(
        missing.code == 1 && missing.stderr.contains("cannot run here"),
        "{missing:?}"
    );
    let report = document(&missing)?;
    let checks = report["checks"].as_array().context("checks")?;
    let missing: Vec<_> = checks
        .iter()
        .filter(|check| check["verdict"] == "missing")
        .collect();
    ensure!(
        missing.iter().any(|check| check["what"] == "CAP_BPF"),
        "{report}"
    );
    Ok(())
}

/// The only JSON document on stdout.
fn document(cli: &Cli) -> Result<Value> {
    // Trailing bytes are an error.
    serde_json::from_str(&cli.stdout).with_context(|| format!("no single document: {cli:?}"))
}

fn run(command: &mut Command) -> Result<Cli> {
    Ok(Cli::from(command.output().context("run synflip")?))
}
