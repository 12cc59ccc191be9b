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
    /// The latest instant that RFC 3339 can write: 9999-12-31T23:59:59.999999Z.
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

/// Text that is no RFC 3339 instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time `{text}`: expected RFC 3339, such as 2026-11-22T04:05:06.789Z")]
pub struct TimeParseError {
    /// What was found.
    pub text: String,
}

impl FromStr for Micros {
    type Err = TimeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let timestamp: jiff::Timestamp =
            text.parse().map_err(|_| TimeParseError { text: text.to_owned() })?;
        Ok(Micros(timestamp.as_microsecond()))
    }
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
            .map_err(|_| TimeParseError { text: text.to_owned() })?;
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
    fn an_hour_survives_its_folder_name() {
        let hour = Micros(1_286_724_601_674_842).hour();
        assert_eq!(hour.to_string(), "2010-10-10T15");
        assert_eq!("2010-10-10T15".parse(), Ok(hour));
        assert_eq!(Micros(-1).hour(), Hour(-1));
        assert!("2010-10-10".parse::<Hour>().is_err());
    }
}
