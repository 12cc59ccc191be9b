//! Units: amounts as people read them in a narrow column.
//!
//! In:   counts, bytes, microseconds.
//! Out:  three digits and a unit: `12.3 k`, `4.5 MiB`, `3 min`.
//! Law:  what is exact below a thousand stays exact; nothing is ever wider than ten columns.
//! Not:  instants (`storage::time`).

/// A count: `999`, `12.3 k`, `1.2 M`.
pub(super) fn count(value: u64) -> String {
    scaled(value, 1_000.0, &["", " k", " M", " G", " T", " P", " E"])
}

/// Bytes: `999 B`, `12.3 KiB`, `1.2 GiB`.
pub(super) fn bytes(value: u64) -> String {
    scaled(value, 1_024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

/// By how much a counter moved: the names of those that count time end in `_us`.
pub(super) fn moved(counter: &str, by: u64) -> (&str, String) {
    match counter.strip_suffix("_us") {
        Some(name) => (name, format!("+{}", span(by))),
        None => (counter, format!("+{}", count(by))),
    }
}

/// Bytes in a second.
pub(super) fn bytes_per_second(value: u64) -> String {
    bytes(value) + "/s"
}

fn scaled(value: u64, step: f64, units: &[&str]) -> String {
    let (mut amount, mut index) = (value as f64, 0);
    // 999.95 would be written as 1000.0.
    while amount >= step - 0.05 && index + 1 < units.len() {
        amount /= step;
        index += 1;
    }
    let unit = units[index];
    if index == 0 || amount >= 99.95 {
        format!("{amount:.0}{unit}")
    } else {
        format!("{amount:.1}{unit}")
    }
}

/// A length of time: `850 us`, `12 ms`, `1.2 s`, `3 min`, `2.5 h`, `3 d`.
pub(super) fn span(value_us: u64) -> String {
    const SECOND: u64 = 1_000_000;
    match value_us {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{value_us} us"),
        1_000..SECOND => format!("{} ms", value_us / 1_000),
        SECOND..60_000_000 => format!("{:.1} s", value_us as f64 / SECOND as f64),
        60_000_000..3_600_000_000 => format!("{} min", value_us / (60 * SECOND)),
        3_600_000_000..172_800_000_000 => {
            format!("{:.1} h", value_us as f64 / (3_600 * SECOND) as f64)
        }
        _ => format!("{} d", value_us / (86_400 * SECOND)),
    }
}

/// A length of time in milliseconds.
pub(super) fn span_ms(value_ms: u64) -> String {
    span(value_ms.saturating_mul(1_000))
}

/// The time of day of an instant, by UTC: `04:05:06`.
pub(super) fn clock(time_us: i64) -> String {
    let second = time_us.div_euclid(1_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// What an amount of so much time comes to in a second.
pub(super) fn rate(amount: u64, span_us: u64) -> u64 {
    let span_us = u128::from(span_us.max(1));
    u64::try_from(u128::from(amount) * 1_000_000 / span_us).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_exact_where_they_are_small() {
        let counts = [0, 999, 1_000, 12_345, 99_960, 999_960, 1_234_567, u64::MAX].map(count);
        assert_eq!(counts, ["0", "999", "1.0 k", "12.3 k", "100 k", "1.0 M", "1.2 M", "18.4 E"]);
        let sizes = [0, 1_023, 1_024, 1_048_575, 300 << 20, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "300 MiB", "5.0 TiB"]);
        let spans = [0, 9, 1_999, 1_200_000, 61_000_000, 5_400_000_000, 172_800_000_000].map(span);
        assert_eq!(spans, ["0 s", "9 us", "1 ms", "1.2 s", "1 min", "1.5 h", "2 d"]);
        for power in 0..64 {
            for value in [(1_u64 << power) - 1, 1 << power] {
                let longest = [count(value), bytes(value), span(value)];
                assert!(longest.iter().all(|text| text.len() <= 15), "{longest:?}");
            }
        }
    }

    #[test]
    fn a_rate_is_of_a_second_however_long_the_look_was() {
        assert_eq!(
            (rate(300, 1_500_000), rate(u64::MAX, 1), rate(5, 0)),
            (200, u64::MAX, 5_000_000)
        );
        assert_eq!(
            (clock(1_800_000_000_000_000), clock(-1)),
            ("08:00:00".into(), "23:59:59".into())
        );
    }
}
