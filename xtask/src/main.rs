//! Project automation: `cargo xtask …`.
//!
//! Needs nothing but stable Rust to start, and no crate of the product, so that it builds when
//! they do not. Whatever else a command needs it provides under `target/`, or names.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is the interface"
)]

mod against;
mod apt;
mod bench;
mod binaries;
mod cargo;
mod carry_over;
mod cases;
mod check;
mod ebpf;
mod guard;
mod hazards;
mod host;
mod manifest;
mod options;
mod program;
mod run;
mod soak;
mod suite;
mod tally;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Project automation.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Command {
    /// Check formatting, lints and documentation.
    Check,
    /// Build the BPF object from source, or check that the committed one is exactly that.
    Ebpf(ebpf::Args),
    /// Run the tests: all of them, or one tier.
    Test(test::Args),
    /// Flip generations of a real server under real load and print what its clients saw.
    Run(program::Args),
    /// Inject faults of every kind under load and print what the clients saw.
    Soak(program::Args),
    /// Measure: steering, flip, …
    Bench(bench::Args),
    /// Kill what a process leaves, when it has ended.
    #[command(hide = true)]
    Guard { process: u32 },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Check => check::run(),
        Command::Ebpf(args) => ebpf::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Run(args) => run::PROGRAM.run(&args),
        Command::Soak(args) => soak::PROGRAM.run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Guard { process } => guard::run(process),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
