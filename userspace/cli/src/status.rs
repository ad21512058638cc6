//! `status`: what a person wants to see at a glance.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use synflip_wire::{GenerationStatus, Phase, RelayStatus, ServiceStatus, Status};

use crate::{args::StatusArgs, client, exit::Done, render};

/// Time between two looks of `--watch`.
const REFRESH: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &StatusArgs, socket: &Path) -> anyhow::Result<Done> {
    let mut client = client::connect(socket)?;
    loop {
        let status = client::status(&mut client, args.service.clone())?;
        if args.json {
            return render::json(&status);
        }
        let text = describe(&status, args.timeline);
        if !args.watch {
            return render::out(&text);
        }
        render::out(&format!("\x1b[H\x1b[2J{text}"))?;
        client::rest(&mut client, REFRESH)?;
    }
}

fn describe(status: &Status, timeline: bool) -> String {
    let agent = &status.agent;
    let migration = if agent.migration { "with" } else { "without" };
    let up = render::duration(now_ms().saturating_sub(agent.started_at_ms));
    let mut text = format!(
        "agent {} (pid {}), up {up}, Linux {} {migration} request migration\n",
        agent.version, agent.pid, agent.kernel
    );
    if status.services.is_empty() {
        text.push_str("no service is registered\n");
    }
    for service in &status.services {
        text.push_str(&describe_service(service));
        if timeline {
            text.push_str(&describe_timeline(service));
        }
    }
    text
}

fn describe_service(service: &ServiceStatus) -> String {
    let working = service
        .working
        .as_ref()
        .map_or_else(|| "none".into(), ToString::to_string);
    let mut text = format!(
        "\n{}: working {working}, epoch {}",
        service.name, service.epoch
    );
    if let Some(previous) = &service.previous {
        text.push_str(&format!(", can roll back to {previous}"));
    }
    text.push_str(&format!(", owner uid {}\n", service.owner_uid));
    if let Some(hold) = service.hold {
        let left = render::duration(hold.ends_at_ms.saturating_sub(now_ms()));
        text.push_str(&format!(
            "nobody works: connections wait for another {left}\n"
        ));
    }
    if service.relayed.total > 0 {
        let RelayStatus { open, total } = service.relayed;
        text.push_str(&format!("{open} connections are relayed, of {total}\n"));
    }
    let header = [
        "GENERATION",
        "PHASE",
        "LISTENERS",
        "QUEUED",
        "HALF-OPEN",
        "SELECTED",
        "PIDS",
    ];
    text.push_str(&render::table(
        &header,
        service.generations.iter().map(generation_row),
    ));
    for endpoint in service.endpoints.iter().filter(|e| e.strangers) {
        let at = endpoint.endpoint.address();
        text.push_str(&format!(
            "somebody who is not registered listens at {at} too, and gets nothing while a \
             generation accepts there\n"
        ));
    }
    let header = [
        "ENDPOINT",
        "RUNS",
        "SELECTED",
        "MIGRATED",
        "NO TABLE",
        "FELL BACK",
        "TOMBSTONES",
    ];
    let rows = service.endpoints.iter().map(|endpoint| {
        let counts = [
            endpoint.runs,
            endpoint.selected,
            endpoint.migrated,
            endpoint.no_table,
            endpoint.fell_back,
            endpoint.tombstones.into(),
        ];
        let mut row = vec![endpoint.endpoint.address().to_string()];
        row.extend(counts.map(|count| count.to_string()));
        row
    });
    text.push_str(&render::table(&header, rows));
    text
}

fn generation_row(generation: &GenerationStatus) -> Vec<String> {
    let listeners = &generation.listeners;
    let queued: Option<u64> = listeners.iter().map(|listener| listener.queued).sum();
    let half_open: Option<u64> = listeners.iter().map(|listener| listener.half_open).sum();
    let selected: u64 = listeners.iter().map(|listener| listener.selected).sum();
    let pids: Vec<String> = generation.pids.iter().map(ToString::to_string).collect();
    vec![
        generation.name.to_string(),
        phase(generation),
        listeners.len().to_string(),
        render::count(queued),
        render::count(half_open),
        selected.to_string(),
        pids.join(" "),
    ]
}

/// What it is doing, and what people would look for beside it.
fn phase(generation: &GenerationStatus) -> String {
    let phase = generation.phase;
    match (phase, generation.in_service, generation.accepting) {
        (Phase::Leaving, Some(count), _) => {
            format!("{phase}, {count} in service", phase = phase.as_str())
        }
        (Phase::Working, _, Some(false)) => "working, nobody accepts".into(),
        _ => match generation.listeners.iter().filter(|l| l.stuck).count() {
            0 => phase.as_str().into(),
            stuck => format!("{phase}, {stuck} stuck", phase = phase.as_str()),
        },
    }
}

fn describe_timeline(service: &ServiceStatus) -> String {
    let now = now_ms();
    let rows = service.timeline.iter().map(|entry| {
        let ago = render::duration(now.saturating_sub(entry.at_ms));
        vec![
            format!("{ago} ago"),
            entry.generation.to_string(),
            entry.what.clone(),
        ]
    });
    render::table(&["WHEN", "GENERATION", "WHAT"], rows)
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_says_who_is_still_served() {
        let said = |phase, in_service, accepting| {
            super::phase(&GenerationStatus {
                name: "v1".parse().unwrap(),
                phase,
                accepting,
                in_service,
                pids: vec![],
                listeners: vec![],
            })
        };
        assert_eq!(said(Phase::Leaving, Some(3), None), "leaving, 3 in service");
        assert_eq!(said(Phase::Leaving, None, None), "leaving");
        assert_eq!(
            said(Phase::Working, None, Some(false)),
            "working, nobody accepts"
        );
        assert_eq!(said(Phase::Working, None, None), "working");
        assert_eq!(said(Phase::Unknown, None, Some(false)), "unknown");
    }
}
