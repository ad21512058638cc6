//! C10: the metrics lack what an operator would be woken up for.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use synflip_bed::{Fixture, Setup, wait::SOON};

use crate::{black_box::first, findings::Findings, verdict::hazard};

#[test]
fn c10_metrics_lack_what_matters() -> Result<()> {
    hazard("C10", || {
        let fixture = Setup::new().agent_args(&["--metrics", METRICS]).start()?;
        let mut found = Findings::default();
        let idle = scrape(&fixture)?;
        found.unless(
            idle.contains("# TYPE"),
            format!("an agent without services answers {:?}", idle.trim()),
        );
        let _server = first(&fixture, &[])?;
        let text = scrape(&fixture)?;
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        ensure!(!names.is_empty(), "{text}");
        let missing: Vec<&str> = WANTED
            .iter()
            .filter(|(_, words)| {
                let has = |name: &&str| words.iter().any(|word| name.contains(word));
                !names.iter().any(has)
            })
            .map(|(what, _)| *what)
            .collect();
        found.unless(
            missing.is_empty(),
            format!("no metric of: {}", missing.join(", ")),
        );
        found.verdict()
    })
}

/// What the metrics say.
fn scrape(fixture: &Fixture) -> Result<String> {
    let address: SocketAddr = METRICS.parse()?;
    let connect = || TcpStream::connect_timeout(&address, SOON);
    let mut stream = fixture.net.server.run(connect).context("connect")?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("scrape")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").context("no body")?.1;
    Ok(body.to_owned())
}

const METRICS: &str = "127.0.0.1:9464";
/// What there has to be, and a word that its name would have.
const WANTED: &[(&str, &[&str])] = &[
    ("connections lost", &["lost"]),
    ("commit durations", &["commit"]),
    ("drain durations", &["drain"]),
    ("holds", &["hold", "held"]),
    ("custody", &["custody"]),
    ("loans", &["loan", "lent"]),
    ("tombstones", &["tombstone"]),
    ("relays", &["relay"]),
    ("failed publications", &["publi"]),
    ("build information", &["build"]),
];
