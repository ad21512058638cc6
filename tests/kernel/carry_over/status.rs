//! What does an agent say of its only service? Of either release: in what `status --json` prints.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use synflip_bed::{
    Fixture,
    wait::{self, SOON},
};

/// The only service.
pub(crate) fn service(fixture: &Fixture) -> Result<Value> {
    let cli = fixture.agent.succeed(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&cli.stdout).context("read a status")?;
    let services = status["services"].as_array().context("no services")?;
    ensure!(services.len() == 1, "not one service: {status:#}");
    Ok(services[0].clone())
}

/// Waits until the only service is as wanted.
pub(crate) fn until(
    fixture: &Fixture,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = None;
    let waited = wait::until(what, SOON, || {
        last = service(fixture).ok();
        last.as_ref().is_some_and(&wanted)
    });
    waited.with_context(|| format!("{last:#?}\n{}", fixture.agent.last_words()))?;
    last.context("no status")
}

/// A generation of a service; null if there is none.
pub(crate) fn generation<'a>(service: &'a Value, name: &str) -> &'a Value {
    let generations = list(&service["generations"]).iter();
    let mut found = generations.filter(|generation| generation["name"] == name);
    found.next().unwrap_or(&Value::Null)
}

/// Whether new connections go to a generation.
pub(crate) fn works(service: &Value, name: &str) -> bool {
    service["working"] == name
}

/// What is queued, or half-open, on a generation's listeners; none if that is unknown.
pub(crate) fn pending(service: &Value, name: &str, what: &str) -> Option<u64> {
    let listeners = list(&generation(service, name)["listeners"]).iter();
    listeners.map(|listener| listener[what].as_u64()).sum()
}

/// What the next agent has to say as well: all but what connections change all the time, and what
/// only one of the releases knows.
pub(crate) fn carried(service: &Value) -> Value {
    let listener = |listener: &Value| json!([listener["slot"], listener["address"]]);
    let generation = |one: &Value| {
        let phase = &one["phase"];
        let name = one["name"].as_str().unwrap_or_default();
        // New connections come to one only.
        let queued = (phase != "working").then(|| pending(service, name, "queued"));
        json!({
            "name": name,
            "phase": phase,
            "queued": queued,
            "pids": one["pids"],
            "listeners": list(&one["listeners"]).iter().map(listener).collect::<Vec<_>>(),
        })
    };
    json!({
        "name": service["name"],
        "owner_uid": service["owner_uid"],
        "epoch": service["epoch"],
        "working": service["working"],
        "previous": service["previous"],
        "endpoints": of_endpoints(service, "address"),
        "generations": list(&service["generations"]).iter().map(generation).collect::<Vec<_>>(),
    })
}

/// A figure of each of a service's endpoints.
pub(crate) fn of_endpoints<'a>(service: &'a Value, figure: &str) -> Vec<&'a Value> {
    let endpoints = list(&service["endpoints"]).iter();
    endpoints.map(|endpoint| &endpoint[figure]).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
