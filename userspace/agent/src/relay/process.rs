//! Starting the relay process, and finding one that an earlier agent has started.

use std::{io, os::fd::OwnedFd, path::Path, process::Stdio, sync::atomic::AtomicU64};

use rustix::fs::{Mode, fchmod};
use socket2::SockAddr;
use synflip_relay::{Hello, Line, VERSION};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    task::spawn_blocking,
    time::timeout,
};

use super::Connected;
use crate::{foreign::Foreign, limits};

/// Agents whose connection the process has not accepted yet: there is one at a time.
const BACKLOG: i32 = 8;

/// The program that runs here: that of an agent whose file has been replaced is still its own.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Why there is no process to relay with.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoProcess {
    /// Nobody listens.
    #[error("there is none")]
    Absent,
    /// It belongs to an agent of another version.
    #[error("it speaks version {theirs}, this agent {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// Something went wrong.
    #[error("{op}: {source}")]
    Io {
        /// What was tried.
        op: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It said why it cannot run, or ended without a word.
    #[error("it has ended ({status}): {said}")]
    Ended {
        /// How.
        status: String,
        /// What it said on standard error.
        said: String,
    },
    /// It did not begin, or did not say hello, in time.
    #[error("it has said nothing for {} s", limits::PATIENCE.as_secs())]
    Silent,
}

/// Connects to the process that listens at `path`.
pub(super) async fn find(path: &Path) -> Result<Connected, NoProcess> {
    let line = Line::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoProcess::Absent,
        _ => failed(&format!("connecting to {}", path.display()), error),
    })?;
    let line = Foreign::from(line);
    // None are expected.
    let mut fds = Foreign::default();
    let hello = timeout(limits::PATIENCE, line.receive_into::<Hello>(&mut fds)).await;
    let hello = hello.map_err(|_elapsed| NoProcess::Silent)?;
    match hello.map_err(|error| failed("reading what it says", error))? {
        Some(hello) if hello.version == VERSION => Ok(Connected {
            line,
            pid: hello.pid,
            places: hello.places,
            sent: AtomicU64::new(0),
        }),
        Some(hello) => Err(NoProcess::Version {
            theirs: hello.version,
        }),
        // It was about to end.
        None => Err(NoProcess::Absent),
    }
}

/// Starts a process that listens at `path` in place of any other, and connects to it.
pub(super) async fn start(path: &Path) -> Result<(Connected, Child), NoProcess> {
    let socket =
        listen(path).map_err(|error| failed(&format!("binding {}", path.display()), error))?;
    let mut child = launch(socket)
        .await
        .map_err(|error| failed(&format!("running {OWN_PROGRAM}"), error))?;
    let begun = timeout(limits::PATIENCE, begun(&mut child)).await;
    begun.map_err(|_elapsed| NoProcess::Silent).flatten()?;
    Ok((find(path).await?, child))
}

/// Waits until the process has given up what it has to, or has ended.
async fn begun(child: &mut Child) -> Result<(), NoProcess> {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // It closes its end when nothing can fail any more.
        let read = stderr.read_to_string(&mut said).await;
        read.map_err(|error| failed("reading its standard error", error))?;
    }
    let said = said.trim();
    if said.is_empty() {
        return Ok(());
    }
    let status = child.wait().await;
    Err(NoProcess::Ended {
        status: status.map_or_else(|error| error.to_string(), |status| status.to_string()),
        said: said.to_owned(),
    })
}

/// A listening socket that only this user, and root, may connect to.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Line::socket()?;
    // The name in the file system gets the mode that the socket has (`unix_bind_bsd`, 5.10 to 7.3:
    // https://elixir.bootlin.com/linux/v6.12/source/net/unix/af_unix.c): at no
    // moment may others connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn launch(socket: OwnedFd) -> io::Result<Child> {
    let launch = move || {
        Command::new(OWN_PROGRAM)
            .arg0("synflip")
            .arg("relay")
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    // Forking takes its time when the agent is large or the machine is busy.
    spawn_blocking(launch).await.map_err(io::Error::other)?
}

fn failed(op: &str, source: io::Error) -> NoProcess {
    NoProcess::Io {
        op: op.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn a_process_of_another_version_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay");
        assert!(matches!(find(&path).await, Err(NoProcess::Absent)));
        let listener = UnixListener::from(listen(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for (hello, expected) in [
            (r#"{"version":1,"pid":5,"places":6}"#, "Ok((5, 6))"),
            (
                r#"{"version":999,"pid":5,"more":{}}"#,
                "Err(\"it speaks version 999, this agent 1\")",
            ),
            (
                r#"{"version":999}"#,
                "Err(\"it speaks version 999, this agent 1\")",
            ),
        ] {
            let (found, ()) = tokio::join!(find(&path), async {
                let (stream, _) = listener.accept().unwrap();
                synflip_wire::send(&stream, hello.as_bytes(), &[]).unwrap();
            });
            let found = found.map(|found| (found.pid, found.places));
            assert_eq!(
                format!("{:?}", found.map_err(|why| why.to_string())),
                expected
            );
        }
        drop(listener);
        assert!(matches!(find(&path).await, Err(NoProcess::Absent)));
    }
}
