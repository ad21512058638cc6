//! Talking to the agent.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use synflip_wire::{Client, Name, Reply, Request, RequestId, ServiceStatus, Status, WireError};

use crate::exit::NoAgent;

/// How long the agent may take over an answer that needs no drain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the agent.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::connect(socket).map_err(|error| match error {
        WireError::Connect(source) => anyhow!(NoAgent {
            socket: socket.to_owned(),
            source,
        }),
        // Its text names the thing, the cause and the cure by itself.
        WireError::Refused(refusal) => anyhow!(refusal),
        error => anyhow!(error).context(format!("the agent at {}", socket.display())),
    })
}

/// Asks for the status.
pub(crate) fn status(client: &mut Client, service: Option<Name>) -> anyhow::Result<Status> {
    match ask(client, &Request::Status { service })? {
        Reply::Status(status) => Ok(status),
        other => unexpected(&other),
    }
}

/// The service that a command means: the named one, or the only one.
pub(crate) fn service(
    client: &mut Client,
    service: Option<&Name>,
) -> anyhow::Result<Option<ServiceStatus>> {
    let mut services = status(client, service.cloned())?.services;
    Ok(if services.len() == 1 {
        services.pop()
    } else {
        None
    })
}

/// Sends a request and returns the answer; a refusal is an error.
pub(crate) fn ask(client: &mut Client, request: &Request) -> anyhow::Result<Reply> {
    let id = client.send(request, &[]).context("asking the agent")?;
    answer(client, id, PATIENCE)
}

/// Waits for the next answer to a request; a refusal is an error.
pub(crate) fn answer(
    client: &mut Client,
    id: RequestId,
    patience: Duration,
) -> anyhow::Result<Reply> {
    match client
        .answer(id, patience)
        .context("waiting for the agent")?
    {
        Reply::Refused(refusal) => bail!(refusal),
        reply => Ok(reply),
    }
}

/// Waits without having asked for anything, and notices at once when the agent goes away.
pub(crate) fn rest(client: &mut Client, pause: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match client.receive(Some(left)) {
            Err(WireError::TimedOut) => return Ok(()),
            Err(error) => return Err(error).context("the agent has gone away"),
            Ok(message) => {
                // Without an id: why it ends the connection.
                if let Reply::Refused(refusal) = message.reply {
                    bail!(refusal);
                }
            }
        }
    }
}

/// An answer to something that was not asked.
pub(crate) fn unexpected<T>(reply: &Reply) -> anyhow::Result<T> {
    bail!("the agent gave an answer that does not fit the question: {reply:?}")
}
