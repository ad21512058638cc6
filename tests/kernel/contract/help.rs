//! Promise: people can read how it is used: the help, and completions for their shell.

use std::process::Command;

use anyhow::{Result, ensure};
use synflip_bed::product::{Cli, program};

#[test]
fn help_is_complete_and_completions_are_there() -> Result<()> {
    let overview = help(&[])?;
    for command in COMMANDS {
        ensure!(
            overview.contains(&format!(" {command} ")),
            "{command} is not in {overview}"
        );
    }
    ensure!(
        overview.contains("Exit codes: 0 done; 1 refused or failed"),
        "{overview}"
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
        let own = help(&[command])?;
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
        let script = Cli::of(Command::new(program("synflip")?).args(["completions", shell]))?;
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
    let cli = Cli::of(
        synflip
            .args(command)
            .arg("--help")
            .env_remove("SYNFLIP_SOCKET"),
    )?;
    ensure!(cli.code == 0 && cli.stderr.is_empty(), "{cli:?}");
    let words: Vec<&str> = cli.stdout.split_whitespace().collect();
    Ok(words.join(" "))
}

const COMMANDS: [&str; 8] = [
    "agent",
    "status",
    "flip",
    "rollback",
    "adopt",
    "retire",
    "doctor",
    "completions",
];
