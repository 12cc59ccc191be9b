//! The values inside attributes: numbers, labels, addresses, prefixes, instants, words.
//!
//! In:   the text of one attribute, references already resolved.
//! Out:  the value, or `None` when the text is no spelling of one.
//! Law:  one spelling means one thing, whichever reader met it.
//! Not:  which element may carry which value (`draft`).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use storage::mapping::{
    Encapsulation, Label, LabelStack, NextHop, Operation, Origin, Role, RouterId, STACK_LABELS_MAX,
    canonical_prefix, parse_address,
};
use storage::row::Cause;
use storage::time::{MICROS_PER_SECOND, Micros};

/// A number without sign, digits only.
pub fn number(text: &str) -> Option<u32> {
    digits(text.as_bytes()).and_then(|value| u32::try_from(value).ok())
}

/// Digits only, at most eighteen, so that nothing overflows.
fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0'))
    })
}

/// An ingress label: `Some(None)` is -1, no label.
pub fn label(text: &str) -> Option<Option<Label>> {
    if text == "-1" {
        return Some(None);
    }
    number(text).and_then(Label::new).map(Some)
}

/// The labels of one branch, outermost first; nothing or -1 = none.
/// Errors: `label-range` for what is no label, `nhlfe-invalid` for too many of them.
pub fn stack(text: &str) -> Result<LabelStack, Cause> {
    let mut stack = LabelStack::new();
    if text == "-1" {
        return Ok(stack);
    }
    for word in text.split_ascii_whitespace() {
        let label = number(word).and_then(Label::new).ok_or(Cause::LabelRange)?;
        if stack.len() == STACK_LABELS_MAX {
            return Err(Cause::NhlfeInvalid);
        }
        stack.push(label);
    }
    Ok(stack)
}

/// An address, with or without the length of a host prefix, as the draft writes next hops.
pub fn address(text: &str) -> Option<IpAddr> {
    match text.split_once('/') {
        None => plain_address(text),
        Some((address, length)) => plain_address(address)
            .filter(|address| length == if address.is_ipv4() { "32" } else { "128" }),
    }
}

/// Dotted decimal first and by hand: nearly every address is one, and a document is full of them.
/// An IPv4-mapped address is the IPv4 address that it stands for.
fn plain_address(text: &str) -> Option<IpAddr> {
    ipv4(text.as_bytes()).map(IpAddr::V4).or_else(|| parse_address(text))
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut rest = bytes.iter();
    for (index, octet) in octets.iter_mut().enumerate() {
        let mut value = 0_u16;
        let mut length = 0;
        loop {
            match rest.next() {
                Some(byte @ b'0'..=b'9') if length < 3 && (length == 0 || value > 0) => {
                    value = value * 10 + u16::from(byte - b'0');
                    length += 1;
                }
                Some(b'.') if index < 3 => break,
                None if index == 3 => break,
                _ => return None,
            }
        }
        if length == 0 {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    Some(Ipv4Addr::from(octets))
}

/// A prefix, masked; an address alone is its host prefix.
pub fn prefix(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return plain_address(text).map(IpNet::from);
    };
    let length = u8::try_from(number(length)?).ok()?;
    let address = ipv4(address.as_bytes()).map(IpAddr::V4).or_else(|| address.parse().ok())?;
    IpNet::new(address, length).ok().map(|prefix| canonical_prefix(prefix).trunc())
}

/// A router id.
pub fn router(text: &str) -> Option<RouterId> {
    plain_address(text).map(RouterId)
}

/// Where an ingress label was received. Words in any case, as the draft quotes them.
pub fn origin(text: &str) -> Option<Origin> {
    if text.eq_ignore_ascii_case("platform") {
        Some(Origin::Platform)
    } else if text.eq_ignore_ascii_case("service") {
        Some(Origin::Service)
    } else if text.eq_ignore_ascii_case("untagged") {
        Some(Origin::Untagged)
    } else {
        address(text).map(|address| Origin::Interface(RouterId(address)))
    }
}

/// A next hop. Words in any case, as the draft quotes them.
pub fn next_hop(text: &str) -> Option<NextHop> {
    if text.eq_ignore_ascii_case("fec") {
        Some(NextHop::Fec)
    } else if text.eq_ignore_ascii_case("recursive") {
        Some(NextHop::Recursive)
    } else if text.eq_ignore_ascii_case("interface") {
        Some(NextHop::Interface)
    } else {
        address(text).map(NextHop::Address)
    }
}

/// An operation. Words in any case.
pub fn operation(text: &str) -> Option<Operation> {
    Operation::ALL.into_iter().find(|operation| text.eq_ignore_ascii_case(operation.name()))
}

/// The kind of a FEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FecKind {
    /// An IP prefix.
    Ip,
    /// A VRF.
    Vrf,
    /// A VPLS instance.
    Vsi,
    /// An attachment circuit.
    Ac,
    /// The router cannot tell.
    Unknown,
    /// Something by its name.
    Name,
    /// An interface.
    Interface,
}

/// When a branch carries traffic.
pub fn role(text: &str) -> Option<Role> {
    [Role::Primary, Role::Backup].into_iter().find(|role| text.eq_ignore_ascii_case(role.name()))
}

/// An encapsulation that is not MPLS.
pub fn encapsulation(text: &str) -> Option<Encapsulation> {
    Encapsulation::ALL.into_iter().find(|outer| text.eq_ignore_ascii_case(outer.name()))
}

/// How much of its stack a branch takes off: `all`.
pub fn strip(text: &str) -> Option<bool> {
    text.eq_ignore_ascii_case("all").then_some(true)
}

/// A type of service.
pub fn tos(text: &str) -> Option<u8> {
    number(text).and_then(|value| u8::try_from(value).ok())
}

/// The kind of a FEC: `vrf`, or as the draft has it `VRF_ID`, in any case.
pub fn fec_kind(text: &str) -> Option<FecKind> {
    let mut lower = [0_u8; 9];
    let lower = lower.get_mut(..text.len())?;
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"ip" => Some(FecKind::Ip),
        b"vrf" | b"vrf_id" | b"vrf-id" => Some(FecKind::Vrf),
        b"vsi" | b"vsi_id" | b"vsi-id" => Some(FecKind::Vsi),
        b"ac" | b"ac_id" | b"ac-id" => Some(FecKind::Ac),
        b"unknown" => Some(FecKind::Unknown),
        b"name" => Some(FecKind::Name),
        b"interface" => Some(FecKind::Interface),
        _ => None,
    }
}

/// A yes or no, as XML Schema writes booleans.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// An instant: seconds since 1970 with up to nine decimals (digits beyond microseconds are cut
/// off), RFC 3339, or the draft's `2010/10/10 15:30:01.674842`, which is taken as UTC.
pub fn time(text: &str) -> Option<Micros> {
    unix_time(text.as_bytes())
        .or_else(|| calendar_time(text))
        .filter(|time| (Micros::MIN..=Micros::MAX).contains(time))
}

fn unix_time(bytes: &[u8]) -> Option<Micros> {
    let (seconds, decimals) = match bytes.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&bytes[..dot], &bytes[dot + 1..]),
        None => (bytes, &b"0"[..]),
    };
    if seconds.len() > 12 || decimals.len() > 9 {
        return None;
    }
    let seconds = i64::try_from(digits(seconds)?).ok()?;
    let nanos = digits(decimals)? * 10_u64.pow(9 - u32::try_from(decimals.len()).ok()?);
    let micros = i64::try_from(nanos / 1_000).ok()?;
    Some(Micros(seconds * MICROS_PER_SECOND + micros))
}

fn calendar_time(text: &str) -> Option<Micros> {
    if text.as_bytes().get(4) != Some(&b'/') {
        return text.parse().ok();
    }
    let (date, time) = text.split_once(' ')?;
    let is_draft = date.len() == 10 && date.as_bytes().get(7) == Some(&b'/');
    let plain = time.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
    if !is_draft || !plain {
        return None;
    }
    format!("{}T{time}Z", date.replace('/', "-")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_three_spellings() {
        let expected = Some(Micros(1_286_724_601_674_842));
        for text in [
            "1286724601.674842",
            "1286724601.674842999",
            "2010-10-10T15:30:01.674842Z",
            "2010-10-10T17:30:01.674842+02:00",
            "2010/10/10 15:30:01.674842",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!(time("5"), Some(Micros(5_000_000)));
        assert_eq!(time("5.5"), Some(Micros(5_500_000)));
        let bad =
            ["", ".", "5.", ".5", "-5", "+5", "1e9", " 5", "5 ", "now", "9999999999999", "1.1.1"];
        for text in
            bad.into_iter().chain(["2010/10/10", "2010/13/10 15:30:01", "2010/10/10 15:30+02"])
        {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn labels_are_numbers_of_twenty_bits_or_minus_one() {
        assert_eq!(label("-1"), Some(None));
        assert_eq!(label("0"), Some(Label::new(0)));
        assert_eq!(label("1048575"), Some(Label::new(1_048_575)));
        for bad in ["1048576", "-2", "+5", "", "0x10", "99999999999999999999", "1 2"] {
            assert_eq!(label(bad), None, "{bad}");
        }
        let values =
            |text: &str| stack(text).map(|stack| stack.iter().map(|l| l.value()).collect());
        assert_eq!(values("24 144"), Ok(vec![24, 144]));
        assert_eq!(values(""), Ok(vec![]));
        assert_eq!(values("-1"), Ok(vec![]));
        assert_eq!(values("24 -1"), Err(Cause::LabelRange));
        assert_eq!(values(&"16 ".repeat(16)).map(|stack| stack.len()), Ok(16));
        assert_eq!(values(&"16 ".repeat(17)), Err(Cause::NhlfeInvalid));
    }

    #[test]
    fn addresses_and_prefixes_are_read_as_the_standard_library_reads_them() {
        let texts = [
            "0.0.0.0",
            "192.0.2.1",
            "255.255.255.255",
            "256.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "1.2.3.4 ",
            "0000.1.1.1",
            "::1",
            "2001:db8::1",
            "::ffff:1.2.3.4",
        ];
        for text in texts {
            let expected = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
            assert_eq!(address(text), expected, "{text}");
            if text.starts_with('0') && !text.starts_with("0.") {
                // `ipnet` reads leading zeros, which some read as octal: they are refused here.
                continue;
            }
            let prefix_text = format!("{text}/24");
            let expected = prefix_text.parse::<IpNet>().ok();
            let expected = expected.map(|prefix| canonical_prefix(prefix).trunc());
            assert_eq!(prefix(&prefix_text), expected, "{prefix_text}");
        }
        assert_eq!(address("192.0.2.1/32"), address("192.0.2.1"));
        assert_eq!(address("2001:db8::1/128"), address("2001:db8::1"));
        assert_eq!(address("192.0.2.1/31"), None);
        assert_eq!(prefix("192.0.2.1"), "192.0.2.1/32".parse().ok());
        assert_eq!(prefix("192.0.2.1/33"), None);
    }

    #[test]
    fn words_are_read_in_any_case_and_in_the_drafts_spelling() {
        assert_eq!(fec_kind("VRF_ID"), Some(FecKind::Vrf));
        assert_eq!(fec_kind("IP"), Some(FecKind::Ip));
        assert_eq!(fec_kind("ipv4"), None);
        assert_eq!(fec_kind("unknown-and-longer"), None);
        assert_eq!(next_hop("FEC"), Some(NextHop::Fec));
        assert_eq!(operation("Push"), Some(Operation::Push));
        assert_eq!(operation("Discard"), Some(Operation::Discard));
        assert_eq!(operation("drop"), None);
        assert_eq!(origin("Platform"), Some(Origin::Platform));
        let router = RouterId("192.0.2.1".parse().unwrap());
        assert_eq!(origin("192.0.2.1/32"), Some(Origin::Interface(router)));
        assert_eq!(origin("elsewhere"), None);
    }
}
