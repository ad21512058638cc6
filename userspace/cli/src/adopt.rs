//! `synflip adopt`: duplicates of a running server's listeners are taken (`pidfd_getfd`) and given
//! to the agent.

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    fs::fstat,
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use socket2::SockRef;
use synflip_wire::{Client, Endpoint, ListenerSpec, MAX_FDS, Name, Register, Reply, Request};

use crate::{args::AdoptArgs, client, exit::Done, render};

/// A duplicate of a server's listener.
struct Listener {
    fd: OwnedFd,
    address: SocketAddr,
}

pub(crate) fn run(args: &AdoptArgs, socket: &Path) -> anyhow::Result<Done> {
    let mut client = client::connect(socket)?;
    let service = service(&mut client, args.service.as_ref())?;
    let pid = args.pid;
    let process = Pid::from_raw(pid)
        .context("a process id is positive")
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
        .with_context(|| format!("there is no process {pid}"))?;
    let listeners = listeners(pid, &process, &args.listen)?;
    // The process once for each message, whose room is limited.
    for some in listeners.chunks(MAX_FDS - 1) {
        let register = Register {
            service: service.clone(),
            generation: Some(args.generation.clone()),
            listeners: some
                .iter()
                .map(|listener| ListenerSpec {
                    endpoint: Endpoint::tcp(listener.address),
                })
                .collect(),
        };
        let mut fds = vec![process.as_fd()];
        fds.extend(some.iter().map(|listener| listener.fd.as_fd()));
        let id = client
            .send(&Request::Adopt(register), &fds)
            .context("asking the agent")?;
        match client::answer(&mut client, id, client::PATIENCE)? {
            Reply::Registered { .. } => {}
            other => return client::unexpected(&other),
        }
    }
    let (generation, count) = (&args.generation, listeners.len());
    if args.json {
        return render::json(&serde_json::json!({
            "service": service,
            "generation": generation,
            "pid": pid,
            "listeners": count,
        }));
    }
    render::out(&format!(
        "{generation} of {service} has {count} listeners of process {pid}\n"
    ))
}

/// The named service, which may be new, or the only one.
fn service(client: &mut Client, named: Option<&Name>) -> anyhow::Result<Name> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let mut services = client::status(client, None)?.services;
    match services.pop() {
        Some(only) if services.is_empty() => Ok(only.name),
        _ => bail!("there is not just one service; name it with --service"),
    }
}

/// Duplicates of a process's TCP listeners, on these addresses or on all.
fn listeners(pid: i32, process: &OwnedFd, only: &[SocketAddr]) -> anyhow::Result<Vec<Listener>> {
    let dir = format!("/proc/{pid}/fd");
    let denied =
        || format!("process {pid}: its descriptors may not be taken; run as root (CAP_SYS_PTRACE)");
    let mut found = Vec::new();
    // A process may have several descriptors of one socket.
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(&dir).with_context(denied)? {
        let entry = entry.with_context(denied)?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(number) = number else { continue };
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        if !is_socket {
            continue;
        }
        let fd = match pidfd_getfd(process, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => fd,
            // Closed meanwhile.
            Err(Errno::BADF) => continue,
            Err(Errno::NOSYS) => bail!("adopting needs Linux 5.6 or later (pidfd_getfd)"),
            Err(errno) => return Err(errno).with_context(denied),
        };
        let Some(address) = listens_at(&fd).with_context(|| format!("{dir}/{number}"))? else {
            continue;
        };
        let wanted = only.is_empty() || only.contains(&address);
        if wanted && inodes.insert(fstat(&fd)?.st_ino) {
            found.push(Listener { fd, address });
        }
    }
    ensure!(
        !found.is_empty(),
        "process {pid} has no listening TCP socket{}",
        match only {
            [] => String::new(),
            [address] => format!(" on {address}"),
            _ => " on any of these addresses".to_owned(),
        }
    );
    if let Some(missing) = only
        .iter()
        .find(|wanted| found.iter().all(|listener| listener.address != **wanted))
    {
        bail!("process {pid} has no listening TCP socket on {missing}");
    }
    found.sort_by_key(|listener| listener.address);
    Ok(found)
}

/// The address that a socket listens at, if it does and has one.
fn listens_at(fd: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(fd);
    Ok(if socket.is_listener()? {
        socket.local_addr()?.as_socket()
    } else {
        None
    })
}
