//! Instants as people write them: RFC 3339, `now`, or so long ago (`-15m`).
//!
//! In:   text from a command line, and the time that counts as now.
//! Out:  `Micros`; a length such as `10ms` in microseconds.
//! Law:  nothing here reads a clock.
//! Not:  RFC 3339 itself (`storage::time`).

use storage::table::CLOCK_AHEAD_MAX_US;
use storage::time::Micros;

use super::QueryError;

/// Text that is neither an instant nor so long ago.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "time `{text}`: write now, -15m (units us, ms, s, m, h, d, w), or RFC 3339 such as \
     2026-11-22T04:05:06.789Z"
)]
pub struct WhenError {
    /// What was found.
    pub text: String,
}

/// Reads an instant; `-15m` is 15 minutes before `now`.
pub fn parse_when(text: &str, now: Micros) -> Result<Micros, WhenError> {
    let error = || WhenError { text: text.to_owned() };
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago_us = parse_length_us(ago).ok_or_else(error)?;
        return Ok(now.offset(-ago_us));
    }
    text.parse().map_err(|_| error())
}

/// Reads an instant that may be asked about. Clocks differ: what is a little ahead may be asked;
/// beyond that lies the future, for which nobody can vouch.
pub fn instant(text: &str, now: Micros) -> Result<Micros, QueryError> {
    let at = parse_when(text, now)?;
    if at.since(now) > CLOCK_AHEAD_MAX_US {
        return Err(QueryError::Future { at, now });
    }
    Ok(at)
}

/// Reads a length such as `10ms`, `5m` or `1h30m`, in microseconds; `None` for anything else.
pub fn parse_length_us(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total_us: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let after = rest.get(digits..)?;
        let letters = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let unit = after.get(..letters)?;
        let unit_us = UNITS_US.iter().find(|(name, _)| *name == unit)?.1;
        total_us = total_us.checked_add(number.checked_mul(unit_us)?)?;
        rest = after.get(letters..)?;
    }
    (!text.is_empty()).then_some(total_us)
}

const UNITS_US: [(&str, i64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let now: Micros = "2026-11-22T04:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("now", "2026-11-22T04:00:00.000000Z"),
            ("-15m", "2026-11-22T03:45:00.000000Z"),
            ("-1h30m", "2026-11-22T02:30:00.000000Z"),
            ("-250ms", "2026-11-22T03:59:59.750000Z"),
            ("-1w", "2026-11-15T04:00:00.000000Z"),
            ("2026-11-22T05:06:07.5+01:00", "2026-11-22T04:06:07.500000Z"),
        ] {
            assert_eq!(parse_when(text, now).unwrap().to_string(), expected, "{text}");
        }
        for bad in ["", "-", "15m", "-15", "-m", "-15x", "yesterday", "-99999999999999999999s"] {
            assert!(parse_when(bad, now).is_err(), "{bad}");
        }
    }
}
