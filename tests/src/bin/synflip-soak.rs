//! Injects faults of every kind into a service under load: see [`synflip_tests::soak`].

use std::process::ExitCode;

fn main() -> ExitCode {
    synflip_tests::soak::main()
}
