//! What does a run say at its end?

use std::fmt::Write as _;

use synflip_bed::{
    capability::release,
    load::{Latency, Mode},
};

use super::{
    half::{Flip, Half},
    kill::Kill,
    options::Settings,
};
use crate::command::format::{self, count, given, micros, ms, percent, table, whole_ms};

/// What is going to happen.
pub(super) fn headline(settings: &Settings) -> String {
    let load = match settings.mode {
        Mode::Closed { clients } => format!("{} clients", count(clients as u64)),
        Mode::Open { rate, .. } => format!("{rate} connections/s"),
    };
    format!(
        "Linux {}: {} in {} s under {load}, round trip {}, packet loss {}, seed {}",
        release(),
        flips(settings.flips.into()),
        settings.duration.as_secs_f64(),
        given(settings.delay.rtt),
        percent(settings.delay.loss),
        settings.delay.seed
    )
}

/// The tables and the closing sentence.
pub(super) fn describe(settings: &Settings, steered: &Half, baseline: Option<&Half>) -> String {
    let halves: Vec<&Half> = [Some(steered), baseline].into_iter().flatten().collect();
    let mut header = vec!["", "SYNFLIP"];
    header.extend(baseline.map(|_| "PLAIN"));
    let rows = comparison(settings, &halves);
    let mut text = format!("\n{}", table(&header, rows));
    if !steered.flips.is_empty() {
        let mut header = vec![
            "FLIP",
            "AT",
            "LISTENERS",
            "QUEUED",
            "HALF-OPEN",
            "COMMIT",
            "DRAIN",
        ];
        if settings.kill_old {
            header.extend(["KILLED", "UNANSWERED", "DIED"]);
        }
        let rows = steered.flips.iter().map(|flip| {
            let kill = steered
                .kills
                .iter()
                .find(|kill| kill.generation == flip.from);
            let kill = settings.kill_old.then(|| kill_cells(kill));
            [flip_row(settings, flip), kill.unwrap_or_default()].concat()
        });
        text += &format!("\n{}", table(&header, rows));
    }
    text.push('\n');
    for note in notes(settings, steered, baseline) {
        writeln!(text, "Note: {note}").unwrap_or_default();
    }
    for problem in steered.problems() {
        writeln!(text, "FAILED: {problem}").unwrap_or_default();
    }
    text + &closing(steered, baseline) + "\n"
}

type Value<'a> = &'a dyn Fn(&Half) -> String;

fn comparison(settings: &Settings, halves: &[&Half]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Value<'_>| {
        let values = halves.iter().map(|half| value(half));
        rows.push([name.to_owned()].into_iter().chain(values).collect());
    };
    row("connections made", &|half| count(half.made()));
    row("  lost", &|half| count(half.report.lost));
    row("    reset", &|half| count(half.report.reset));
    row("    refused", &|half| count(half.report.refused));
    row("    timed out", &|half| count(half.report.connect_timeout));
    row("    stalled", &|half| count(half.report.stalled));
    if settings.kill_old {
        row("  died in service", &|half| count(half.died_in_service()));
    }
    type Quantile = fn(Latency) -> u64;
    let quantiles: [(&str, Quantile); 4] = [
        ("p50", |latency| latency.p50),
        ("p99", |latency| latency.p99),
        ("p999", |latency| latency.p999),
        ("max", |latency| latency.max),
    ];
    for (when, during_flips) in [("steady", false), ("during flips", true)] {
        for (name, quantile) in quantiles {
            row(&format!("latency {when}, {name}"), &|half| {
                let split = half.latency;
                let latency = if during_flips {
                    split.flip
                } else {
                    split.steady
                };
                latency.map_or_else(none, |latency| micros(quantile(latency)))
            });
        }
    }
    row("commit, p50 / max", &|half| {
        spread(half.commit_ms().collect(), ms)
    });
    row("drain, p50 / max", &|half| {
        spread(half.drain_ms().collect(), whole_ms)
    });
    rows
}

fn spread(values: Vec<f64>, show: fn(f64) -> String) -> String {
    let text = |(median, max)| format!("{} / {}", show(median), show(max));
    format::median_and_max(values).map_or_else(none, text)
}

fn none() -> String {
    "-".into()
}

fn flip_row(settings: &Settings, flip: &Flip) -> Vec<String> {
    let (from, to) = (flip.from, flip.from + 1);
    let drain = |value: &dyn Fn(super::drive::Drain) -> String| flip.drain.map_or_else(none, value);
    vec![
        format!("{} → {}", flip.old_name(), flip.new_name()),
        format!("{:.2} s", flip.at.as_secs_f64()),
        format!(
            "{} → {}",
            settings.listeners_of(from),
            settings.listeners_of(to)
        ),
        drain(&|drain| count(drain.queued)),
        drain(&|drain| count(drain.half_open)),
        drain(&|drain| ms(drain.commit_ms)),
        drain(&|drain| whole_ms(drain.drain_ms as f64)),
    ]
}

fn kill_cells(kill: Option<&Kill>) -> Vec<String> {
    let cells = |kill: &Kill| {
        let victim = kill.phase.as_str().into();
        let [unanswered, died] = [kill.unanswered(), kill.died_in_service].map(count);
        vec![victim, unanswered, died]
    };
    kill.map_or_else(|| vec![none(); 3], cells)
}

fn notes(settings: &Settings, steered: &Half, baseline: Option<&Half>) -> Vec<String> {
    let mut notes = Vec::new();
    if settings.delay.loss > 0.05 {
        notes.push(format!(
            "at this packet loss some connections take longer than {:.0} s, flips or not",
            settings.timeout().as_secs_f64()
        ));
    }
    let overrun = steered.report.overrun;
    if overrun > 0 {
        notes.push(format!(
            "{} arrivals were never opened: this host cannot make that rate",
            count(overrun)
        ));
    }
    let halves = [Some(steered), baseline].into_iter().flatten();
    let left_out: u64 = halves.clone().map(|half| half.report.losses_left_out).sum();
    if settings.kill_old && left_out > 0 {
        notes.push(format!(
            "{} connections too many to be looked at one by one count as lost",
            count(left_out)
        ));
    }
    let kills = halves.flat_map(|half| &half.kills);
    let unnoted: u64 = kills.map(|kill| kill.death.account.unnoted).sum();
    if unnoted > 0 {
        notes.push(format!(
            "{} connections found a server's ledger full; those of them that died with it count \
             as lost",
            count(unnoted)
        ));
    }
    if baseline.is_some_and(|plain| plain.report.lost == 0 && !plain.flips.is_empty()) {
        notes.push(
            "plain SO_REUSEPORT lost nothing either, so this run shows no difference; \
             try more --clients, a longer --rtt or more --flips"
                .into(),
        );
    }
    notes
}

fn closing(steered: &Half, baseline: Option<&Half>) -> String {
    let mut text = format!(
        "{} of {} connections lost in {}",
        count(steered.report.lost),
        count(steered.made()),
        flips(steered.flips.len() as u64)
    );
    if !steered.kills.is_empty() {
        text += &format!(
            ", {} of them with a SIGKILL; {} died in service with the servers that were killed",
            steered.kills.len(),
            count(steered.died_in_service())
        );
    }
    if let Some(plain) = baseline {
        text += &format!(
            "; plain SO_REUSEPORT lost {} of {} in the same restarts",
            count(plain.report.lost),
            count(plain.made())
        );
    }
    text + "."
}

fn flips(number: u64) -> String {
    match number {
        1 => "1 flip".into(),
        _ => format!("{} flips", count(number)),
    }
}
