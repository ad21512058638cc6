//! What do `20ms` and `1%` mean?

use std::time::Duration;

/// Reads a duration with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    parsed.ok_or_else(|| "not a duration with a unit; write 20ms or 0.1s".into())
}

/// Reads a share of the whole, as a percentage or as a number up to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number / whole),
        _ => Err("not a share; write 1% or 0.01".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        for (text, micros) in [
            ("20ms", 20_000),
            ("0.1s", 100_000),
            ("1 s", 1_000_000),
            ("500us", 500),
            ("0ms", 0),
            ("1.5ms", 1500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in [
            "", "20", "ms", "-1ms", "1m", "NaNs", "infs", "1e30s", "20 mss",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_or_a_number() {
        for (text, value) in [("1%", 0.01), ("0.01", 0.01), ("0", 0.0), ("12.5 %", 0.125)] {
            assert_eq!(share(text), Ok(value), "{text}");
        }
        for text in ["", "%", "one", "NaN", "inf%", "1%%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
