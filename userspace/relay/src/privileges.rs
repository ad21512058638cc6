//! Giving up all that the process has from the agent and does not need.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::Mode,
    io::Errno,
    process::{
        DumpableBehavior, Gid, Resource, Rlimit, Uid, chdir, geteuid, getrlimit,
        set_dumpable_behavior, setrlimit, setsid, umask,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{carrier::RelayError, sys};

/// The user and the group that own nothing.
const NOBODY: u32 = 65534;

/// The descriptors that the process keeps.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The socket that agents connect to.
    pub(crate) socket: OwnedFd,
    /// To be put in the place of standard error once nothing can fail any more.
    null: File,
}

impl Kept {
    /// Lets go of standard error, which tells the agent that the process is ready.
    pub(crate) fn close_stderr(self) -> Result<OwnedFd, RelayError> {
        dup2_stderr(&self.null).map_err(failed("closing standard error"))?;
        Ok(self.socket)
    }
}

/// Gives up descriptors, session, directory, groups, user and capabilities. Standard input has to
/// be the socket that agents connect to.
///
/// To be called while the process has one thread and has opened nothing.
pub(crate) fn give_up() -> Result<Kept, RelayError> {
    // SAFETY: the caller has opened nothing yet: all that is open was inherited, and nothing in this
    // process owns it.
    unsafe { sys::close_all_but_stdio() }.map_err(failed("closing descriptors"))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(failed("opening /dev/null"))?;
    let socket = io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.map_err(failed("taking the socket"))?;
    dup2_stdin(&null).map_err(failed("closing standard input"))?;
    dup2_stdout(&null).map_err(failed("closing standard output"))?;

    // Whoever starts the agent in a terminal ends the agent with Ctrl-C, not this.
    setsid().map_err(failed("beginning a session"))?;
    chdir("/").map_err(failed("leaving the directory"))?;
    umask(Mode::from_bits_truncate(0o077));
    raise_descriptors();
    drop_identity()?;
    Ok(Kept { socket, null })
}

/// Two for each connection are needed.
fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    // What there may be is counted later, raised or not.
    setrlimit(Resource::Nofile, all).unwrap_or_default();
}

fn drop_identity() -> Result<(), RelayError> {
    let held = capabilities(None)
        .map_err(failed("reading capabilities"))?
        .effective;
    if held.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all() {
            match remove_capability_from_bounding_set(capability) {
                // A kernel that does not know it cannot give it either.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(failed("emptying the bounding set")(errno)),
            }
        }
    }
    // An agent that is root in name only cannot become another user; its relay then is root in
    // name only as well, and has less than the agent.
    if geteuid().is_root() && held.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).map_err(failed("leaving groups"))?;
        set_thread_res_gid(group, group, group).map_err(failed("becoming the group nogroup"))?;
        set_thread_res_uid(user, user, user).map_err(failed("becoming the user nobody"))?;
    }
    clear_ambient_capability_set().map_err(failed("clearing ambient capabilities"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(failed("giving up capabilities"))?;
    set_no_new_privs(true).map_err(failed("setting no_new_privs"))?;
    // What passes through it is nobody's business: no core dump, no tracing by the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbidding dumps"))
}

fn failed<E: Into<io::Error>>(op: &'static str) -> impl FnOnce(E) -> RelayError {
    move |source| RelayError::GiveUp {
        op,
        source: source.into(),
    }
}
