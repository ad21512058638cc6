//! Talking to the agent.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use synflip_wire::{Client, Name, Reply, Request, ServiceStatus, Status};

use crate::exit::NoAgent;

/// How long the agent may take over an answer that needs no drain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the agent.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::connect(socket).map_err(|source| {
        NoAgent {
            socket: socket.to_owned(),
            source,
        }
        .into()
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
    client.send(request, &[]).context("asking the agent")?;
    answer(client, PATIENCE)
}

/// Waits for the next answer; a refusal is an error.
pub(crate) fn answer(client: &mut Client, patience: Duration) -> anyhow::Result<Reply> {
    match client
        .receive(Some(patience))
        .context("waiting for the agent")?
    {
        Reply::Refused(refusal) => bail!(refusal),
        reply => Ok(reply),
    }
}

/// An answer to something that was not asked.
pub(crate) fn unexpected<T>(reply: &Reply) -> anyhow::Result<T> {
    bail!("the agent gave an answer that does not fit the question: {reply:?}")
}
