//! The `synflip` command: the agent, and the operator's side of its control socket.

mod adopt;
mod agent;
mod args;
mod client;
mod doctor;
mod exit;
mod flip;
mod render;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Command};
use exit::Done;

fn main() -> ExitCode {
    let args = Args::parse();
    let socket = args.socket;
    let done = match args.command {
        Command::Agent(agent) => agent::run(agent, socket),
        Command::Status(status) => status::run(&status, &socket),
        Command::Flip(flip) => flip::flip(&flip, &socket),
        Command::Rollback(rollback) => flip::rollback(&rollback, &socket),
        Command::Adopt(adopt) => adopt::run(&adopt, &socket),
        Command::Retire(retire) => flip::retire(&retire, &socket),
        Command::Release(release) => flip::release(&release, &socket),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Relay => synflip_relay::run()
            .map(|()| Done::Fully)
            .map_err(Into::into),
        Command::Completions { shell } => {
            let mut command = Args::command();
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, name, &mut script);
            render::out(&String::from_utf8_lossy(&script))
        }
    };
    exit::code(done)
}
