//! `flip`, `rollback` and `retire`.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use synflip_wire::{
    Certificate, Committed, DrainEnd, DrainStep, Endpoint, ListenerDrain, Reply, Request, Target,
};

use crate::{
    args::{FlipArgs, ReleaseArgs, RetireArgs, RollbackArgs, WaitArgs},
    client,
    exit::Done,
    render,
};

/// How much later than the deadline its report may come.
const GRACE: Duration = Duration::from_secs(10);

/// What `--json` prints: the commit, and the certificate if it was waited for.
#[derive(Serialize)]
struct Outcome<'a> {
    flip: &'a Committed,
    drain: Option<&'a Certificate>,
}

pub(crate) fn flip(args: &FlipArgs, socket: &Path) -> anyhow::Result<Done> {
    let drop = args.drop_endpoint.iter().copied().map(Endpoint::tcp);
    change(args.to.clone().into(), drop.collect(), &args.wait, socket)
}

pub(crate) fn rollback(args: &RollbackArgs, socket: &Path) -> anyhow::Result<Done> {
    change(Target::Previous, Vec::new(), &args.wait, socket)
}

pub(crate) fn retire(args: &RetireArgs, socket: &Path) -> anyhow::Result<Done> {
    let mut client = client::connect(socket)?;
    let RetireArgs {
        generation,
        service,
        force,
        json,
    } = args;
    let request = Request::Retire {
        service: service.clone(),
        generation: generation.clone(),
        force: *force,
    };
    match client::ask(&mut client, &request)? {
        Reply::Done if *json => render::json(&serde_json::json!({ "retired": generation })),
        Reply::Done => render::out(&format!("{generation} retired\n")),
        other => client::unexpected(&other),
    }
}

pub(crate) fn release(args: &ReleaseArgs, socket: &Path) -> anyhow::Result<Done> {
    let mut client = client::connect(socket)?;
    let ReleaseArgs { service, json } = args;
    let request = Request::Release {
        service: Some(service.clone()),
    };
    match client::ask(&mut client, &request)? {
        Reply::Done if *json => render::json(&serde_json::json!({ "released": service })),
        Reply::Done => render::out(&format!(
            "{service} released: its servers go on as with plain SO_REUSEPORT\n"
        )),
        other => client::unexpected(&other),
    }
}

fn change(
    to: Target,
    drop_endpoints: Vec<Endpoint>,
    args: &WaitArgs,
    socket: &Path,
) -> anyhow::Result<Done> {
    let mut client = client::connect(socket)?;
    // Two operators who both looked at the same epoch cannot both succeed.
    let seen = client::service(&mut client, args.service.as_ref())?;
    let drain = if args.no_wait {
        Duration::ZERO
    } else {
        Duration::from_secs(args.timeout)
    };
    let request = Request::Flip {
        service: args.service.clone(),
        to,
        if_epoch: seen.map(|service| service.epoch),
        drain_ms: u64::try_from(drain.as_millis()).unwrap_or(u64::MAX),
        keep: args.keep,
        drop_endpoints,
    };
    let id = client.send(&request, &[]).context("asking the agent")?;
    let committed = match client::answer(&mut client, id, client::PATIENCE)? {
        Reply::Committed(committed) => committed,
        other => return client::unexpected(&other),
    };
    if !args.json {
        render::out(&commit_line(&committed))?;
    }
    if drain.is_zero() {
        return match args.json {
            true => render::json(&Outcome {
                flip: &committed,
                drain: None,
            }),
            false => Ok(Done::Fully),
        };
    }
    let certificate = loop {
        match client::answer(&mut client, id, drain + GRACE)? {
            Reply::Draining(step) => render::progress(&format!(" draining: {}", pending(&step))),
            Reply::Drained(certificate) => break certificate,
            other => return client::unexpected(&other),
        }
    };
    render::progress("");
    if args.json {
        render::json(&Outcome {
            flip: &committed,
            drain: Some(&certificate),
        })?;
    } else {
        render::out(&describe(&certificate))?;
    }
    Ok(match certificate.end {
        DrainEnd::Drained | DrainEnd::Standby | DrainEnd::Serving => Done::Fully,
        // What this release does not know is not known to be a success.
        _ => Done::NotDrained,
    })
}

fn commit_line(committed: &Committed) -> String {
    let Committed {
        service,
        from,
        to,
        epoch,
        listeners,
        commit_ms,
        lacks,
        ..
    } = committed;
    let from = from
        .as_ref()
        .map_or_else(|| "(nothing)".into(), ToString::to_string);
    let mut text = format!(
        "{service}: {from} -> {to}, epoch {epoch}, {listeners} listeners; committed in {commit_ms:.1} ms\n"
    );
    for endpoint in lacks {
        let address = endpoint.address();
        text += &format!("{to} has nobody at {address}: connections go where they went before\n");
    }
    text
}

/// The drain certificate, for people.
fn describe(certificate: &Certificate) -> String {
    let Some(from) = &certificate.flip.from else {
        return "nothing was working before: nothing to drain\n".into();
    };
    let after = certificate
        .drained_after_ms
        .map(render::duration)
        .unwrap_or_default();
    let verdict = match certificate.end {
        DrainEnd::Drained => format!("{from} drained {after} after the commit; it closes now"),
        DrainEnd::Standby => {
            format!("{from} drained {after} after the commit; it stays open until it is retired")
        }
        DrainEnd::DeadlinePassed => format!(
            "{from} has NOT drained in time; nothing was closed and the agent goes on. A half-open \
             handshake of a client that has gone away takes up to 63 s to end"
        ),
        DrainEnd::Serving => format!(
            "{from} goes on serving what {} lacks; it drains once somebody else accepts there",
            certificate.flip.to
        ),
        DrainEnd::Superseded => format!("{from} works again: another flip has come in between"),
        _ => format!(
            "the wait for {from} is over in a way that this release does not know; look at the status"
        ),
    };
    let header = ["SLOT", "ADDRESS", "AT COMMIT", "THEN", "EMPTY AFTER"];
    let rows = certificate.listeners.iter().map(row);
    format!("{verdict}\n{}", render::table(&header, rows))
}

fn row(listener: &ListenerDrain) -> Vec<String> {
    let (first, then) = match listener.steps.split_first() {
        Some((first, then)) => (pending(first), then),
        None => ("unknown".into(), [].as_slice()),
    };
    let then: Vec<String> = then
        .iter()
        .map(|step| format!("{} at {}", pending(step), render::duration(step.after_ms)))
        .collect();
    let empty = listener
        .empty_after_ms
        .map_or_else(|| "not empty".into(), render::duration);
    vec![
        listener.slot.to_string(),
        listener.endpoint.address().to_string(),
        first,
        then.join(", "),
        empty,
    ]
}

fn pending(step: &DrainStep) -> String {
    if step.is_empty() {
        return "empty".into();
    }
    format!("{} queued + {} half-open", step.queued, step.half_open)
}

#[cfg(test)]
mod tests {
    use synflip_wire::{Epoch, Slot};

    use super::*;

    #[test]
    fn a_certificate_says_what_was_pending_and_when_it_was_gone() {
        let step = |after_ms, queued, half_open| DrainStep {
            after_ms,
            queued,
            half_open,
        };
        let certificate = Certificate {
            flip: Committed {
                service: "web".parse().unwrap(),
                from: Some("gen1".parse().unwrap()),
                to: "gen2".parse().unwrap(),
                epoch: Epoch(2),
                listeners: 4,
                commit_ms: 8.25,
                committed_at_ms: 0,
                lacks: Vec::new(),
            },
            end: DrainEnd::Drained,
            drained_after_ms: Some(23),
            listeners: vec![ListenerDrain {
                slot: Slot(0),
                endpoint: "tcp/127.0.0.1:80".parse().unwrap(),
                steps: vec![step(0, 3, 2), step(4, 0, 2), step(23, 0, 0)],
                empty_after_ms: Some(23),
            }],
        };
        assert_eq!(
            describe(&certificate),
            "gen1 drained 23 ms after the commit; it closes now\n \
             SLOT  ADDRESS       AT COMMIT               THEN                                            EMPTY AFTER\n \
             0     127.0.0.1:80  3 queued + 2 half-open  0 queued + 2 half-open at 4 ms, empty at 23 ms  23 ms\n"
        );
    }
}
