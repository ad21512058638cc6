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
use synflip_relay::Counts;
use synflip_wire::{Name, Status};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

use crate::{AgentError, limits, registry::Message, relay::Figures};

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
struct EndpointLabels {
    service: String,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    service: String,
    endpoint: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RelayLabels {
    service: String,
    to: String,
}

/// Opens the metrics address.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address)
        .await
        .map_err(AgentError::io("listening on the metrics address"))
}

/// Answers scrapes for as long as the agent runs, if there is an address for them.
pub(crate) async fn serve(
    listener: Option<TcpListener>,
    messages: mpsc::Sender<Message>,
    relayed: Figures,
) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let places = Arc::new(Semaphore::new(limits::SCRAPES));
    // With all places taken the rest wait in the accept queue.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (messages, relayed) = (messages.clone(), relayed.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let found = request.method() == Method::GET && request.uri().path() == "/metrics";
                respond(found, messages.clone(), relayed.clone())
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
    relayed: Figures,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (answer, status) = oneshot::channel();
    let asked = found && messages.send(Message::Scrape { answer }).await.is_ok();
    let text = if asked {
        status
            .await
            .ok()
            .and_then(|status| render(&status, |service| relayed.counts(service)))
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

/// The status in the OpenMetrics text format, and what has been relayed.
fn render(status: &Status, relayed: impl Fn(&Name) -> Counts) -> Option<String> {
    let mut registry = Registry::with_prefix("synflip");
    let flips = Family::<ServiceLabels, Counter>::default();
    let listeners = Family::<GenerationLabels, Gauge>::default();
    let queued = Family::<GenerationLabels, Gauge>::default();
    let half_open = Family::<GenerationLabels, Gauge>::default();
    let stuck = Family::<GenerationLabels, Gauge>::default();
    let strangers = Family::<EndpointLabels, Gauge>::default();
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
        "stuck_listeners",
        "Listeners that nobody accepts from although a process holds them",
        stuck.clone(),
    );
    registry.register(
        "strangers",
        "1 if somebody who is not registered listens at the endpoint too",
        strangers.clone(),
    );
    registry.register(
        "program_runs",
        "Runs of the BPF program by outcome; fell_back should stay 0",
        runs.clone(),
    );
    let relayed_open = Family::<ServiceLabels, Gauge>::default();
    let relayed_total = Family::<ServiceLabels, Counter>::default();
    let relayed_bytes = Family::<RelayLabels, Counter>::default();
    registry.register(
        "relayed_open",
        "Connections that the relay process carries",
        relayed_open.clone(),
    );
    registry.register(
        "relayed",
        "Connections that a relay process has been given",
        relayed_total.clone(),
    );
    registry.register(
        "relayed_bytes",
        "Bytes of these, by whom they were meant for",
        relayed_bytes.clone(),
    );
    for service in &status.services {
        let name = service.name.to_string();
        flips
            .get_or_create(&ServiceLabels {
                service: name.clone(),
            })
            .inc_by(service.epoch.0);
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let labels = ServiceLabels {
            service: name.clone(),
        };
        let counts = relayed(&service.name);
        relayed_open.get_or_create(&labels).set(number(counts.open));
        relayed_total.get_or_create(&labels).inc_by(counts.total);
        for (to, bytes) in [("server", counts.to_server), ("client", counts.to_client)] {
            let labels = RelayLabels {
                service: name.clone(),
                to: to.into(),
            };
            relayed_bytes.get_or_create(&labels).inc_by(bytes);
        }
        for generation in &service.generations {
            let labels = GenerationLabels {
                service: name.clone(),
                generation: generation.name.to_string(),
                phase: generation.phase.as_str().into(),
            };
            let its = &generation.listeners;
            listeners
                .get_or_create(&labels)
                .set(number(its.len() as u64));
            let its_stuck = its.iter().filter(|listener| listener.stuck).count();
            stuck.get_or_create(&labels).set(number(its_stuck as u64));
            let known = its.iter().filter_map(|listener| listener.queued).sum();
            queued.get_or_create(&labels).set(number(known));
            let known = its.iter().filter_map(|listener| listener.half_open).sum();
            half_open.get_or_create(&labels).set(number(known));
        }
        for endpoint in &service.endpoints {
            let labels = EndpointLabels {
                service: name.clone(),
                endpoint: endpoint.endpoint.address().to_string(),
            };
            strangers
                .get_or_create(&labels)
                .set(endpoint.strangers.into());
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
            strangers: true,
        };
        let service = ServiceStatus {
            name: "web".parse().unwrap(),
            owner_uid: 0,
            epoch: Epoch(3),
            working: None,
            previous: None,
            endpoints: vec![endpoint],
            generations: vec![],
            hold: None,
            timeline: vec![],
            relayed: RelayStatus { open: 1, total: 2 },
        };
        let agent = AgentStatus {
            version: String::new(),
            pid: 1,
            started_at_ms: 0,
            kernel: String::new(),
            migration: true,
        };
        let status = Status {
            agent,
            services: vec![service],
        };
        let counts = Counts {
            open: 1,
            total: 2,
            to_server: 30,
            to_client: 40,
        };
        let text = render(&status, |_| counts).unwrap();
        for line in [
            "synflip_relayed_open{service=\"web\"} 1\n",
            "synflip_relayed_total{service=\"web\"} 2\n",
            "synflip_strangers{service=\"web\",endpoint=\"[::]:443\"} 1\n",
            "synflip_relayed_bytes_total{service=\"web\",to=\"server\"} 30\n",
            "synflip_relayed_bytes_total{service=\"web\",to=\"client\"} 40\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
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
