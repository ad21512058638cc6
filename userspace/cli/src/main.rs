//! The `synflip` command.
fn main() {}
