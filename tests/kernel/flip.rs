//! What a flip does to connections, wherever they are at its commit.

mod half_open;
