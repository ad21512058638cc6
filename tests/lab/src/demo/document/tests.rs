//! The names that scripts depend on.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::demo::{
    drive::{Drain, Finished},
    half::Flip,
    latency::{Split, Window},
    options::tests::settings,
    schedule::Schedule,
};
use synflip_bed::{kills::Death, load::Report};

fn half(mode: Mode, drain: Option<Drain>) -> Half {
    let schedule = Schedule::new(1, 1, Duration::from_secs(12)).unwrap();
    let window = Window {
        begun_us: 0,
        ended_us: 1,
    };
    let finished = Finished {
        from: 1,
        window,
        drain,
    };
    let latency = Split {
        steady: Some(Latency::default()),
        flip: Some(Latency::default()),
    };
    let counters = drain.map(|_| Counters::default());
    let flips = vec![Flip::new(finished, &schedule)];
    Half {
        mode,
        report: Report::default(),
        latency,
        flips,
        kills: Vec::new(),
        counters,
        broken: Vec::new(),
    }
}

/// Every path to a value; a question mark where it is null.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "baseline") {
                paths(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(items) => paths(&items[0], &format!("{path}[]"), found),
        Value::Null => found.push(format!("{path}?")),
        _ => found.push(path.to_owned()),
    }
}

fn names(value: &Value) -> String {
    let mut found = Vec::new();
    paths(value, "", &mut found);
    found.sort_unstable();
    found.join(" ")
}

#[test]
fn the_names_are_those_that_scripts_depend_on() {
    let drain = Drain {
        commit_ms: 8.0,
        drain_ms: 3,
        queued: 1,
        half_open: 2,
    };
    let settings = settings(&["--flips", "1"]).unwrap();
    let steered = half(Mode::Steered, Some(drain));
    let plain = half(Mode::Plain, None);
    let document = Document::new(&settings, &steered, Some(&plain));
    let document = serde_json::to_value(document).unwrap();
    assert_eq!(document["mode"], "steered");
    assert_eq!(document["baseline"]["mode"], "plain");
    assert_eq!(document["generations"][0]["name"], "gen1");
    assert_eq!(document["generations"][1]["name"], "gen2");

    let mut expected: Vec<&str> = NAMES.split_whitespace().collect();
    expected.extend(STEERED_ONLY.split_whitespace());
    expected.extend(COUNTERS.split_whitespace());
    expected.sort_unstable();
    assert_eq!(names(&document), expected.join(" "));

    let mut expected: Vec<String> = NAMES.split_whitespace().map(str::to_owned).collect();
    let null = STEERED_ONLY.split_whitespace().chain([".counters"]);
    expected.extend(null.map(|name| format!("{name}?")));
    expected.sort_unstable();
    assert_eq!(names(&document["baseline"]), expected.join(" "));
}

#[test]
fn kills_have_names_where_there_are_any() {
    let settings = settings(&["--flips", "1", "--kill-old"]).unwrap();
    let mut half = half(Mode::Steered, None);
    half.kills.push(Kill {
        generation: 1,
        victim: Victim::Working,
        phase: Phase::Working,
        at: Duration::from_secs(1),
        death: Death::default(),
        died_in_service: 3,
    });
    let document = serde_json::to_value(Document::new(&settings, &half, None)).unwrap();
    assert_eq!(document["connections"]["died_in_service"], 3);
    assert_eq!(document["kills"][0]["which"], "working");
    let names = names(&document);
    let mut expected = KILLS.split_whitespace();
    assert!(
        expected.all(|name| names.split(' ').any(|other| other == name)),
        "{names}"
    );
}

const NAMES: &str = "
    .kernel .mode .seed .rtt_ms .loss .seconds .flips
    .connections.ok .connections.lost .connections.reset .connections.refused
    .connections.timeout .connections.stalled
    .latency_us.steady.p50 .latency_us.steady.p99 .latency_us.steady.p999
    .latency_us.steady.max
    .latency_us.flip.p50 .latency_us.flip.p99 .latency_us.flip.p999 .latency_us.flip.max
    .generations[].name .generations[].number .generations[].listeners .generations[].served";
const STEERED_ONLY: &str = "
    .flip_commit_ms.p50 .flip_commit_ms.max .drain_ms.p50 .drain_ms.max
    .generations[].queued .generations[].half_open .generations[].drain_ms";
const KILLS: &str = "
    .connections.died_in_service .kills[].generation .kills[].which .kills[].phase .kills[].at_s
    .kills[].accepted_unanswered .kills[].accepting .kills[].died_in_service";
const COUNTERS: &str = "
    .counters.runs .counters.selected .counters.migrated .counters.no_table
    .counters.fell_back";
