//! Instants and hours: the one clock format of rows, queries and file names.
//!
//! In:   microseconds since 1970-01-01T00:00:00Z, from routers and from this host; RFC 3339 text.
//! Out:  `Micros`, `Hour`, and their text.
//! Law:  no function here reads a clock; the time is always an argument.
//! Not:  how far a router's clock may be off (`table`), or which hour a row is filed in (`log`).

use std::fmt;
use std::str::FromStr;

/// An instant, in microseconds since the epoch (UTC). Negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds in one minute.
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
/// Microseconds in one hour.
pub const MICROS_PER_HOUR: i64 = 3_600 * MICROS_PER_SECOND;

impl Micros {
    /// The earliest instant that RFC 3339 can write (year 0000 is left out: year 1).
    pub const MIN: Micros = Micros(-62_135_596_800 * MICROS_PER_SECOND);
    /// The latest instant that is counted: two hours before the year 10000 in every zone of Earth,
    /// 9999-12-30T21:59:59.999999Z.
    pub const MAX: Micros = Micros(253_402_207_200 * MICROS_PER_SECOND - 1);

    /// The UTC hour that holds this instant.
    pub fn hour(self) -> Hour {
        Hour(self.0.div_euclid(MICROS_PER_HOUR))
    }

    /// This instant moved by `delta_us`, kept within `MIN ..= MAX`.
    pub fn offset(self, delta_us: i64) -> Micros {
        Micros(self.0.saturating_add(delta_us).clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Microseconds from `earlier` to this instant; negative when `earlier` is later.
    pub fn since(self, earlier: Micros) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Micros {
    /// RFC 3339 with six decimals: `2010-10-10T15:30:01.674842Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = self.0.clamp(Self::MIN.0, Self::MAX.0);
        match jiff::Timestamp::from_microsecond(clamped) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Text that is no RFC 3339 instant, or none that is counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time `{text}`: {fault}")]
pub struct TimeParseError {
    /// What was found.
    pub text: String,
    /// What is wrong with it.
    pub fault: TimeFault,
}

/// What is wrong with a text that should be an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeFault {
    /// It is something else.
    #[error("expected RFC 3339, such as 2026-11-22T04:05:06.789Z")]
    Form,
    /// Date and time, and nothing that says where on Earth.
    #[error("its zone is missing: write Z behind it for UTC, or one such as +01:00")]
    ZoneMissing,
    /// Beyond what is counted.
    #[error("beyond the instants that are counted, {min} to {max}", min = Micros::MIN, max = Micros::MAX)]
    OutOfRange,
}

impl FromStr for Micros {
    type Err = TimeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let timestamp: jiff::Timestamp = text
            .parse()
            .map_err(|_| TimeParseError { text: text.to_owned(), fault: fault_of(text) })?;
        let instant = Micros(timestamp.as_microsecond());
        // The count of seconds has no leap second: it is the instant at which the next one begins,
        // behind everything of the one before it.
        let counted = if is_leap_second(text) { next_second(instant) } else { instant };
        if counted > Micros::MAX || counted < Micros::MIN {
            let fault = TimeFault::OutOfRange;
            return Err(TimeParseError { text: text.to_owned(), fault });
        }
        Ok(counted)
    }
}

/// What is wrong with a text that `jiff` does not take for an instant.
fn fault_of(text: &str) -> TimeFault {
    let zone = text.rfind(['Z', 'z', '+', '-']).filter(|place| *place > DATE_BYTES);
    let (local, zone) = text.split_at(zone.unwrap_or(text.len()));
    let is_local = local.len() > DATE_BYTES && local.parse::<jiff::civil::DateTime>().is_ok();
    let is_hours = |hours: &str| {
        hours.len() >= 2 && hours.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
    };
    match zone {
        "" if is_local => TimeFault::ZoneMissing,
        "Z" | "z" if is_local => TimeFault::OutOfRange,
        _ if is_local && is_hours(&zone[1..]) => TimeFault::OutOfRange,
        _ => TimeFault::Form,
    }
}

/// Bytes of `2026-11-22`.
const DATE_BYTES: usize = 10;

/// Whether the seconds are 60: `2016-12-31T23:59:60Z`, which `jiff` reads as the second before.
fn is_leap_second(text: &str) -> bool {
    let time = text.get(DATE_BYTES + 1..).unwrap_or_default();
    time.get(5..8) == Some(":60")
}

fn next_second(instant: Micros) -> Micros {
    Micros((instant.0.div_euclid(MICROS_PER_SECOND) + 1) * MICROS_PER_SECOND)
}

/// A UTC hour, counted from the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i64);

impl Hour {
    /// The first instant of the hour.
    pub fn start(self) -> Micros {
        Micros(self.0.saturating_mul(MICROS_PER_HOUR))
    }

    /// The hour after this one.
    pub fn next(self) -> Hour {
        Hour(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hour {
    /// The name of the hour's folder: `2026-11-22T04`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start().to_string();
        f.write_str(text.get(..13).unwrap_or(&text))
    }
}

impl FromStr for Hour {
    type Err = TimeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: Micros = format!("{text}:00:00Z")
            .parse()
            .map_err(|_| TimeParseError { text: text.to_owned(), fault: TimeFault::Form })?;
        Ok(instant.hour())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_text() {
        for us in [0, 1, -1, 1_286_724_601_674_842, Micros::MIN.0, Micros::MAX.0] {
            let text = Micros(us).to_string();
            assert_eq!(text.parse(), Ok(Micros(us)), "{text}");
        }
        assert_eq!(Micros(1_286_724_601_674_842).to_string(), "2010-10-10T15:30:01.674842Z");
    }

    #[test]
    fn a_leap_second_comes_behind_the_second_before_it_and_not_behind_the_one_after() {
        let at = |text: &str| text.parse::<Micros>().unwrap();
        let next = at("2017-01-01T00:00:00Z");
        for leap in
            ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.9Z", "2017-01-01T00:59:60.5+01:00"]
        {
            assert!(at(leap) > at("2016-12-31T23:59:59.999999Z"), "{leap}");
            assert_eq!(at(leap), next, "{leap}");
        }
        // A minute of 60 is none.
        assert!("2016-12-31T23:60:00Z".parse::<Micros>().is_err());
        assert_eq!(at("2016-12-31T23:59:06Z").0 % MICROS_PER_SECOND, 0);
    }

    #[test]
    fn what_is_wrong_with_a_time_is_told() {
        let fault = |text: &str| text.parse::<Micros>().unwrap_err().fault;
        for text in ["2026-11-22T04:05:06", "2026-11-22 04:05", "2026-11-22T04:05:06.5"] {
            assert_eq!(fault(text), TimeFault::ZoneMissing, "{text}");
        }
        for text in
            ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.5-08:00", "-000001-01-01T00:00:00Z"]
        {
            assert_eq!(fault(text), TimeFault::OutOfRange, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-11-22",
            "2026-13-22T04:05:06Z",
            "04:05:06Z",
            "\u{e9}:60",
            "2026-11-22T04:05:06-",
        ] {
            assert_eq!(fault(text), TimeFault::Form, "{text}");
        }
        let text = "9999-12-31T23:59:59Z".parse::<Micros>().unwrap_err().to_string();
        assert!(
            text.ends_with("0001-01-01T00:00:00.000000Z to 9999-12-30T21:59:59.999999Z"),
            "{text}"
        );
    }

    #[test]
    fn an_hour_survives_its_folder_name() {
        let hour = Micros(1_286_724_601_674_842).hour();
        assert_eq!(hour.to_string(), "2010-10-10T15");
        assert_eq!("2010-10-10T15".parse(), Ok(hour));
        assert_eq!(Micros(-1).hour(), Hour(-1));
        assert!("2010-10-10".parse::<Hour>().is_err());
    }
}
