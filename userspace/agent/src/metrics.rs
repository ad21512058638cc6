//! The status as numbers, for whoever scrapes them.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use synflip_wire::Status;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{AgentError, limits, registry::Message};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenerationLabels {
    service: String,
    generation: String,
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    service: String,
    endpoint: String,
    outcome: String,
}

/// Opens the metrics address.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address)
        .await
        .map_err(AgentError::io("listening on the metrics address"))
}

/// Answers scrapes for as long as the agent runs.
pub(crate) async fn serve(listener: TcpListener, messages: mpsc::Sender<Message>) {
    let places = Arc::new(Semaphore::new(limits::SCRAPES));
    // With all places taken the rest wait in the accept queue.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let messages = messages.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let found = request.method() == Method::GET && request.uri().path() == "/metrics";
                respond(found, messages.clone())
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::PATIENCE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = connection.await {
                tracing::debug!("metrics: {error}");
            }
            drop(place);
        });
    }
}

async fn respond(
    found: bool,
    messages: mpsc::Sender<Message>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (answer, status) = oneshot::channel();
    let asked = found && messages.send(Message::Scrape { answer }).await.is_ok();
    let text = if asked {
        status.await.ok().and_then(|status| render(&status))
    } else {
        None
    };
    let mut response = Response::new(Full::default());
    match text {
        Some(text) => {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            *response.body_mut() = Full::from(text);
        }
        None if found => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

/// The status in the OpenMetrics text format.
fn render(status: &Status) -> Option<String> {
    let mut registry = Registry::with_prefix("synflip");
    let flips = Family::<ServiceLabels, Counter>::default();
    let listeners = Family::<GenerationLabels, Gauge>::default();
    let queued = Family::<GenerationLabels, Gauge>::default();
    let half_open = Family::<GenerationLabels, Gauge>::default();
    let runs = Family::<OutcomeLabels, Counter>::default();
    registry.register("flips", "Flips that have committed", flips.clone());
    registry.register("listeners", "Listeners registered", listeners.clone());
    registry.register("queued", "Connections in accept queues", queued.clone());
    registry.register(
        "half_open",
        "Handshakes begun and not ended",
        half_open.clone(),
    );
    registry.register(
        "program_runs",
        "Runs of the BPF program by outcome; fell_back should stay 0",
        runs.clone(),
    );
    for service in &status.services {
        let name = service.name.to_string();
        flips
            .get_or_create(&ServiceLabels {
                service: name.clone(),
            })
            .inc_by(service.epoch.0);
        for generation in &service.generations {
            let labels = GenerationLabels {
                service: name.clone(),
                generation: generation.name.to_string(),
                phase: generation.phase.as_str().into(),
            };
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let its = &generation.listeners;
            listeners
                .get_or_create(&labels)
                .set(number(its.len() as u64));
            let known = its.iter().filter_map(|listener| listener.queued).sum();
            queued.get_or_create(&labels).set(number(known));
            let known = its.iter().filter_map(|listener| listener.half_open).sum();
            half_open.get_or_create(&labels).set(number(known));
        }
        for endpoint in &service.endpoints {
            for (outcome, count) in [
                ("selected", endpoint.selected),
                ("migrated", endpoint.migrated),
                ("no_table", endpoint.no_table),
                ("fell_back", endpoint.fell_back),
            ] {
                let labels = OutcomeLabels {
                    service: name.clone(),
                    endpoint: endpoint.endpoint.address().to_string(),
                    outcome: outcome.into(),
                };
                runs.get_or_create(&labels).inc_by(count);
            }
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry).ok().map(|()| text)
}

#[cfg(test)]
mod tests {
    use synflip_wire::{AgentStatus, EndpointStatus, Epoch, RelayStatus, ServiceStatus};

    use super::*;

    #[test]
    fn each_run_is_in_exactly_one_outcome() {
        let endpoint = EndpointStatus {
            endpoint: "tcp/[::]:443".parse().unwrap(),
            runs: 10,
            selected: 7,
            migrated: 2,
            no_table: 1,
            fell_back: 0,
            tombstones: 0,
        };
        let service = ServiceStatus {
            name: "web".parse().unwrap(),
            owner_uid: 0,
            epoch: Epoch(3),
            working: None,
            previous: None,
            endpoints: vec![endpoint],
            generations: vec![],
            relayed: RelayStatus::default(),
            hold: None,
            timeline: vec![],
        };
        let agent = AgentStatus {
            version: String::new(),
            pid: 1,
            started_at_ms: 0,
            kernel: String::new(),
            migration: true,
        };
        let text = render(&Status {
            agent,
            services: vec![service],
        })
        .unwrap();
        assert!(
            text.contains("synflip_flips_total{service=\"web\"} 3\n"),
            "{text}"
        );
        let runs: u64 = text
            .lines()
            .filter(|line| line.starts_with("synflip_program_runs_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(runs, 10, "{text}");
    }
}
