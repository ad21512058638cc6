//! Numbers and tables as people read them.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// A table; the first column is text, the others are numbers.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt() + "\n"
}

/// 182,331
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits and the unit that fits.
pub(crate) fn micros(us: u64) -> String {
    ms(us as f64 / 1000.0)
}

/// The same of milliseconds.
pub(crate) fn ms(ms: f64) -> String {
    if ms < 9.995 {
        format!("{ms:.2} ms")
    } else if ms < 99.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// Milliseconds that were counted whole.
pub(crate) fn whole_ms(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// 1 ms, 1.5 ms: as it was given.
pub(crate) fn given(duration: Duration) -> String {
    format!("{} ms", duration.as_secs_f64() * 1000.0)
}

/// 0.07 as 7%, whatever binary fractions make of it.
pub(crate) fn percent(share: f64) -> String {
    format!("{}%", (share * 1e6).round() / 1e4)
}

/// The median and the greatest; none of nothing.
pub(crate) fn median_and_max(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_unstable_by(f64::total_cmp);
    let max = *values.last()?;
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    };
    Some((median, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (182_331, "182,331"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in [
            (412, "0.41 ms"),
            (9_996, "10.0 ms"),
            (23_100, "23.1 ms"),
            (99_960, "100 ms"),
            (1_020_000, "1.02 s"),
        ] {
            assert_eq!(micros(us), text);
        }
    }

    #[test]
    fn a_share_is_shown_as_it_was_given() {
        for (share, text) in [(0.0, "0%"), (0.07, "7%"), (0.0125, "1.25%")] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn a_median_of_an_even_number_is_between_two() {
        assert_eq!(median_and_max(vec![3.0, 1.0, 2.0]), Some((2.0, 3.0)));
        assert_eq!(median_and_max(vec![4.0, 1.0, 2.0, 3.0]), Some((2.5, 4.0)));
        assert_eq!(median_and_max(Vec::new()), None);
    }
}
