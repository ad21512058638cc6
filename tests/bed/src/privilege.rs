//! As much as this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files, and so that of its children, as far as it may:
/// many hosts start with 1024, which is little for many clients.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused, only what needs very many fails, and says why.
    setrlimit(Resource::Nofile, all).unwrap_or_default();
}
