//! Instants as people write them: RFC 3339, seconds since 1970, `now`, or so long ago (`-15m`).
//!
//! In:   text from a command line, and the time that counts as now.
//! Out:  `Micros`; a length such as `10ms` in microseconds.
//! Law:  nothing here reads a clock.
//! Not:  RFC 3339 itself (`storage::time`), what routers write (`wire::xml::value`).

use storage::table::CLOCK_AHEAD_MAX_US;
use storage::time::{MICROS_PER_SECOND, Micros, TimeFault};

use super::QueryError;
use crate::wire::xml::value;

/// Text that is neither an instant nor so long ago.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time `{text}`: {fault}")]
pub struct WhenError {
    /// What was found.
    pub text: String,
    /// What is wrong with it.
    pub fault: WhenFault,
}

/// What is wrong with a text that should be an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenFault {
    /// It is something else.
    #[error(
        "write now, -15m (units us, ms, s, m, h, d, w), seconds since 1970, or RFC 3339 such as \
         2026-11-22T04:05:06.789Z"
    )]
    Form,
    /// A number that is hardly one of seconds since 1970: a year, a length, milliseconds.
    #[error(
        "as seconds since 1970 it would be {0}, long before any router: write so long ago as -15m, \
         or RFC 3339 such as 2026-11-22T04:05:06.789Z"
    )]
    Early(Micros),
    /// A number beyond what is counted, which milliseconds are.
    #[error("more seconds since 1970 than are counted: are these milli- or microseconds?")]
    NoSeconds,
    /// RFC 3339 with a fault.
    #[error(transparent)]
    Time(TimeFault),
}

/// Reads an instant; `-15m` is 15 minutes before `now`.
pub fn parse_when(text: &str, now: Micros) -> Result<Micros, WhenError> {
    let error = |fault| WhenError { text: text.to_owned(), fault };
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago_us = parse_length_us(ago).ok_or_else(|| error(WhenFault::Form))?;
        return Ok(now.offset(-ago_us));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return seconds(text).map_err(error);
    }
    // The draft writes 2010/10/10 15:30:01.674842, and means UTC.
    if let Some(instant) = value::time(text) {
        return Ok(instant);
    }
    text.parse::<Micros>().map_err(|found| {
        error(match found.fault {
            TimeFault::Form => WhenFault::Form,
            fault => WhenFault::Time(fault),
        })
    })
}

/// The year 1980: a smaller number of seconds is meant to be something else.
const SECONDS_LEAST: i64 = 315_532_800;

/// Seconds since 1970, with or without decimals.
fn seconds(text: &str) -> Result<Micros, WhenFault> {
    let whole = text.split('.').next().unwrap_or_default();
    match value::time(text) {
        Some(instant) if instant.0 < SECONDS_LEAST * MICROS_PER_SECOND => {
            Err(WhenFault::Early(instant))
        }
        Some(instant) => Ok(instant),
        None if whole.trim_start_matches('0').len() > 11 => Err(WhenFault::NoSeconds),
        None => Err(WhenFault::Form),
    }
}

/// Reads an instant that may be asked about. Clocks differ: what is a little ahead may be asked;
/// beyond that lies the future, for which nobody can vouch.
pub(super) fn instant(text: &str, now: Micros) -> Result<Micros, QueryError> {
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
        for (text, expected) in [
            ("1286724601", "2010-10-10T15:30:01.000000Z"),
            ("1286724601.674842", "2010-10-10T15:30:01.674842Z"),
            ("2010/10/10 15:30:01.674842", "2010-10-10T15:30:01.674842Z"),
            ("2010-10-10 15:30:01Z", "2010-10-10T15:30:01.000000Z"),
        ] {
            assert_eq!(parse_when(text, now).unwrap().to_string(), expected, "{text}");
        }
        let bad = ["", "-", "15m", "-15", "-m", "-15x", "yesterday", "-99999999999999999999s", "."];
        for bad in bad.into_iter().chain(["2010/13/10 15:30:01", "1.2.3", "2026-11-22"]) {
            assert_eq!(parse_when(bad, now).unwrap_err().fault, WhenFault::Form, "{bad}");
        }
        for (bad, word) in [
            ("2026-11-22T04:05:06", "its zone is missing"),
            ("9999-12-31T23:59:59Z", "beyond the instants that are counted"),
            ("2026", "it would be 1970-01-01T00:33:46"),
            ("1795320600000", "milli"),
        ] {
            let said = parse_when(bad, now).unwrap_err().to_string();
            assert!(said.contains(word), "{bad}: {said}");
        }
    }
}
