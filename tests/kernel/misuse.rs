//! What the kernel's rules allow anyone to do to listeners, and what nobody should: nothing is lost.

mod frozen;
mod paused;
mod program_replaced;
