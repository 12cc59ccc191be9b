//! Route distinguishers (RFC 4364 section 4.2).
//!
//! In:   text, or eight bytes.
//! Out:  the other of the two.
//! Law:  every eight bytes have a text, and the text gives them back.
//! Not:  the VRF that one stands for (`fec`).

use std::fmt;
use std::str::FromStr;

use super::ModelParseError;

/// A route distinguisher (RFC 4364 section 4.2), as its eight bytes in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(pub [u8; 8]);

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [type_high, type_low, a, b, c, d, e, g] = self.0;
        match u16::from_be_bytes([type_high, type_low]) {
            0 => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => write!(f, "{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, g])),
            2 => write!(f, "{}L:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for RouteDistinguisher {
    type Err = ModelParseError;

    /// Accepts `65000:2` (type 0), `192.0.2.1:2` (type 1), `4200000000:2` or `65000L:2` (type 2),
    /// and `0x` with sixteen hexadecimal digits (any type).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_route_distinguisher(text).ok_or_else(|| ModelParseError {
            what: "route distinguisher",
            text: text.to_owned(),
            expected: "65000:2, 192.0.2.1:2, 4200000000:2 or 0x and 16 digits",
        })
    }
}

fn parse_route_distinguisher(text: &str) -> Option<RouteDistinguisher> {
    if let Some(digits) = text.strip_prefix("0x") {
        let value = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())??;
        return Some(RouteDistinguisher(value.to_be_bytes()));
    }
    let (administrator, number) = text.split_once(':')?;
    let number: u32 = number.parse().ok()?;
    if let Ok(address) = administrator.parse::<std::net::Ipv4Addr>() {
        let number = u16::try_from(number).ok()?;
        return Some(rd_of(1, address.octets(), number));
    }
    if let Some(wide) = administrator.strip_suffix('L') {
        let number = u16::try_from(number).ok()?;
        return Some(rd_of(2, wide.parse::<u32>().ok()?.to_be_bytes(), number));
    }
    let administrator: u32 = administrator.parse().ok()?;
    if let Ok(short) = u16::try_from(administrator) {
        let [a, b] = short.to_be_bytes();
        let [c, d, e, g] = number.to_be_bytes();
        return Some(RouteDistinguisher([0, 0, a, b, c, d, e, g]));
    }
    Some(rd_of(2, administrator.to_be_bytes(), u16::try_from(number).ok()?))
}

fn rd_of(kind: u8, administrator: [u8; 4], number: u16) -> RouteDistinguisher {
    let [a, b, c, d] = administrator;
    let [e, g] = number.to_be_bytes();
    RouteDistinguisher([0, kind, a, b, c, d, e, g])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_distinguisher_survives_its_text() {
        for text in ["65000:2", "192.0.2.1:7", "4200000000:9", "0x00030102030405ff"] {
            let rd: RouteDistinguisher = text.parse().unwrap();
            assert_eq!(rd.to_string().parse(), Ok(rd), "{text}");
        }
        assert_eq!("65000:2".parse(), Ok(RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 2])));
        for bad in ["", "1", "1:", ":1", "192.0.2.1:65536", "0x12", "a:b"] {
            assert!(bad.parse::<RouteDistinguisher>().is_err(), "{bad}");
        }
    }
}
