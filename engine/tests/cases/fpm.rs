//! FPM as a case writes it: `R(10.1.0.0/16, gw 10.0.12.2, label 24)` becomes netlink in a frame.
//!
//! In:   a line of messages: R and -R routes, L and -L label routes, N and -N next hops.
//! Out:  one FPM frame with these messages in it, little-endian, as FRR on x86 writes it.
//! Law:  what a router could not send can be written too: nothing here judges a value.
//! Not:  what the collector makes of it.

use std::net::IpAddr;

/// Whose route it is, unless it says.
const RTPROT_OSPF: u8 = 188;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_MPLS: u8 = 28;
const AF_PACKET: u16 = 17;
const ENCAP_MPLS: u16 = 1;
const TABLE_MAIN: u32 = 254;

/// What an argument is called, and the text behind it.
type Argument<'l> = (&'l str, &'l str);

/// The frame of one line. Errors: what was expected, and the text in which it lacks.
pub(super) fn frame(line: &str) -> Result<Vec<u8>, String> {
    let mut payload = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let open = rest.find('(').ok_or_else(|| wrong("NAME(…)", rest))?;
        let close = closing(rest, open).ok_or_else(|| wrong("`)`", rest))?;
        let message = message(rest[..open].trim(), &rest[open + 1..close])
            .map_err(|fault| format!("{fault}, in `{}`", &rest[..=close]))?;
        payload.extend(message);
        rest = rest[close + 1..].trim_start();
    }
    let bytes = u16::try_from(payload.len() + 4).map_err(|_| wrong("64 KiB at most", line))?;
    Ok([&[1, 1][..], &bytes.to_be_bytes(), &payload].concat())
}

fn wrong(expected: &str, found: &str) -> String {
    format!("expected {expected}, found `{found}`")
}

/// The place of the parenthesis or bracket that closes the one at `open`.
fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `10.1.0.0/16, gw 10.0.12.2, hops[(…) (…)]` at its commas, none of those inside brackets.
fn arguments(text: &str) -> Vec<Argument<'_>> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    let named = parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let end = part.find([' ', '[']).unwrap_or(part.len());
        (&part[..end], part[end..].trim())
    });
    named.collect()
}

fn message(name: &str, text: &str) -> Result<Vec<u8>, String> {
    let arguments = arguments(text);
    let (first, rest) = arguments.split_first().ok_or_else(|| wrong("an argument", text))?;
    match name {
        "R" | "-R" => route(name == "-R", first.0, rest),
        "L" | "-L" => label_route(name == "-L", first.0, rest),
        "N" => next_hop(first.0, rest),
        "-N" => {
            let id = attribute(1, &number::<u32>(first.0)?.to_le_bytes());
            Ok(netlink(RTM_DELNEXTHOP, &[0; 8], &[id]))
        }
        _ => Err(wrong("R, -R, L, -L, N or -N", name)),
    }
}

/// `struct rtmsg`, RTA_DST, and what else is written.
fn route(deleted: bool, prefix: &str, rest: &[Argument<'_>]) -> Result<Vec<u8>, String> {
    let (family, bits, address) = prefix_of(prefix)?;
    let (mut table, mut kind, mut tos, mut source_bits) = (TABLE_MAIN, 1, 0, 0);
    let mut protocol = RTPROT_OSPF;
    let mut attributes = vec![attribute(1, &address)];
    for (name, value) in rest {
        match *name {
            "type" => kind = number(value)?,
            "table" => table = number(value)?,
            "protocol" => protocol = number(value)?,
            "tos" => tos = number(value)?,
            "src" => {
                let (_, bits, address) = prefix_of(value)?;
                source_bits = bits;
                attributes.push(attribute(2, &address));
            }
            "nhid" => attributes.push(attribute(30, &number::<u32>(value)?.to_le_bytes())),
            "hops" => attributes.push(attribute(9, &hops(family, value)?)),
            _ => attributes.extend(hop_attribute(family, name, value)?),
        }
    }
    attributes.push(attribute(15, &table.to_le_bytes()));
    let table = u8::try_from(table).unwrap_or(0);
    let header = [family, bits, source_bits, tos, table, protocol, 0, kind, 0, 0, 0, 0];
    let message = if deleted { RTM_DELROUTE } else { RTM_NEWROUTE };
    Ok(netlink(message, &header, &attributes))
}

fn label_route(deleted: bool, label: &str, rest: &[Argument<'_>]) -> Result<Vec<u8>, String> {
    let mut attributes = vec![attribute(1, &stack(label)?)];
    let mut kind = 1;
    for (name, value) in rest {
        match *name {
            "type" => kind = number(value)?,
            "hops" => attributes.push(attribute(9, &hops(AF_MPLS, value)?)),
            _ => attributes.extend(hop_attribute(AF_MPLS, name, value)?),
        }
    }
    let header = [AF_MPLS, 20, 0, 0, TABLE_MAIN as u8, 193, 0, kind, 0, 0, 0, 0];
    let message = if deleted { RTM_DELROUTE } else { RTM_NEWROUTE };
    Ok(netlink(message, &header, &attributes))
}

/// `struct nhmsg`, NHA_ID, and a hop, a group or a blackhole.
fn next_hop(id: &str, rest: &[Argument<'_>]) -> Result<Vec<u8>, String> {
    let mut attributes = vec![attribute(1, &number::<u32>(id)?.to_le_bytes())];
    for (name, value) in rest {
        match *name {
            "group" => attributes.push(attribute(2, &group(value)?)),
            "blackhole" => attributes.push(attribute(4, &[])),
            "oif" => attributes.push(attribute(5, &number::<u32>(value)?.to_le_bytes())),
            "gw" => attributes.push(attribute(6, &address(value)?)),
            "label" => {
                let labels = attribute(1, &stack(value)?);
                attributes.push(attribute(7, &ENCAP_MPLS.to_le_bytes()));
                attributes.push(attribute(8, &labels));
            }
            "enc" => {
                let (kind, bytes) = value.split_once(' ').unwrap_or((value, ""));
                attributes.push(attribute(7, &number::<u16>(kind)?.to_le_bytes()));
                attributes.push(attribute(8, &hex(bytes)?));
            }
            _ => return Err(wrong("group, blackhole, gw, label, enc or oif", name)),
        }
    }
    Ok(netlink(RTM_NEWNEXTHOP, &[AF_INET, 0, 11, 0, 0, 0, 0, 0], &attributes))
}

/// `1 3*2`: members by number, with the weight behind `*`.
fn group(text: &str) -> Result<Vec<u8>, String> {
    let member = |text: &str| {
        let (id, weight) = text.split_once('*').unwrap_or((text, "1"));
        let weight = number::<u8>(weight)?.wrapping_sub(1);
        Ok([&number::<u32>(id)?.to_le_bytes()[..], &[weight, 0, 0, 0]].concat())
    };
    Ok(text.split_whitespace().map(member).collect::<Result<Vec<_>, String>>()?.concat())
}

/// What a branch of a route says; the same attributes stand in the route itself.
fn hop_attribute(family: u8, name: &str, value: &str) -> Result<Vec<Vec<u8>>, String> {
    Ok(match name {
        "gw" if family == AF_MPLS => {
            let address = address(value)?;
            let of = if address.len() == 4 { AF_INET } else { AF_INET6 };
            vec![attribute(18, &[&u16::from(of).to_le_bytes()[..], &address].concat())]
        }
        "gw" => vec![attribute(5, &address(value)?)],
        "via" => {
            let (of, bytes) = value.split_once(' ').unwrap_or((value, ""));
            let of = number::<u16>(of)?.to_le_bytes();
            vec![attribute(18, &[&of[..], &hex(bytes)?].concat())]
        }
        // As the kernel writes a label route that has an interface and no neighbour.
        "via17" => vec![attribute(18, &[&AF_PACKET.to_le_bytes()[..], &[0; 6]].concat())],
        "oif" => vec![attribute(4, &number::<u32>(value)?.to_le_bytes())],
        "newdst" => vec![attribute(19, &stack(value)?)],
        "label" if family == AF_MPLS => vec![attribute(19, &stack(value)?)],
        "label" => {
            let labels = attribute(1, &stack(value)?);
            vec![attribute(21, &ENCAP_MPLS.to_le_bytes()), attribute(22, &labels)]
        }
        "enc" => {
            let (kind, bytes) = value.split_once(' ').unwrap_or((value, ""));
            let kind = number::<u16>(kind)?.to_le_bytes();
            vec![attribute(21, &kind), attribute(22, &hex(bytes)?)]
        }
        _ => return Err(wrong("gw, label, newdst, oif, enc, via, via17, hops, type, …", name)),
    })
}

/// `[(gw 10.0.12.2, label 24, weight 2, flags 1) (…)]`: `struct rtnexthop`, one after the other.
fn hops(family: u8, text: &str) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let mut rest = inner.ok_or_else(|| wrong("[(…) (…)]", text))?.trim();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let close = closing(rest, 0).filter(|_| rest.starts_with('('));
        let close = close.ok_or_else(|| wrong("(…)", rest))?;
        let (mut weight, mut flags, mut interface, mut attributes) =
            (1_u8, 0_u8, 3_u32, Vec::new());
        for (name, value) in arguments(&rest[1..close]) {
            match name {
                "weight" => weight = number(value)?,
                "flags" => flags = number(value)?,
                "oif" => interface = number(value)?,
                _ => attributes.extend(hop_attribute(family, name, value)?),
            }
        }
        let attributes = attributes.concat();
        let bytes = u16::try_from(attributes.len() + 8).map_err(|_| wrong("a hop", rest))?;
        out.extend(bytes.to_le_bytes());
        out.extend([flags, weight.wrapping_sub(1)]);
        out.extend(interface.to_le_bytes());
        out.extend(attributes);
        rest = rest[close + 1..].trim_start();
    }
    Ok(out)
}

/// `struct nlmsghdr`, the header of its kind, attributes.
fn netlink(kind: u16, header: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = [header, &attributes.concat()].concat();
    let bytes = u32::try_from(body.len() + 16).unwrap();
    [&bytes.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 10], &body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(value.len() + 4).unwrap();
    let mut out = [&bytes.to_le_bytes()[..], &kind.to_le_bytes(), value].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| wrong("a number", text))
}

fn address(text: &str) -> Result<Vec<u8>, String> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => Ok(address.octets().to_vec()),
        Ok(IpAddr::V6(address)) => Ok(address.octets().to_vec()),
        Err(_) => Err(wrong("an address", text)),
    }
}

/// Family, length and address; the length may be one that no prefix has.
fn prefix_of(text: &str) -> Result<(u8, u8, Vec<u8>), String> {
    let (of, bits) = text.split_once('/').ok_or_else(|| wrong("a prefix", text))?;
    let address = address(of)?;
    let family = if address.len() == 4 { AF_INET } else { AF_INET6 };
    Ok((family, number(bits)?, address))
}

/// `24 144`, outermost first: the last one has the bottom bit.
fn stack(text: &str) -> Result<Vec<u8>, String> {
    let labels: Vec<u32> = text.split_whitespace().map(number).collect::<Result<_, _>>()?;
    let bottom = labels.len().checked_sub(1).ok_or_else(|| wrong("labels", text))?;
    let entry = |(index, label): (usize, &u32)| {
        (label << 12 | u32::from(index == bottom) << 8).to_be_bytes()
    };
    Ok(labels.iter().enumerate().flat_map(entry).collect())
}

/// Bytes in hexadecimal, with any space between them.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        let byte = u8::from_str_radix(&pair, 16).ok().filter(|_| pair.len() == 2);
        byte.ok_or_else(|| wrong("pairs of hexadecimal digits", &pair))
    };
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_is_written_is_read_by_the_collector() {
    use engine::wire::decoder::Decoder;
    use engine::wire::{Step, Tools, Unit, WireLimits};
    use storage::time::Micros;

    let lines = [
        "N(1, gw 10.0.12.2, label 24) N(2, gw 10.0.13.3) N(9, group 1 2*2)",
        "R(10.1.0.0/16, gw 10.0.12.2, label 24 144) L(24, gw 10.0.23.3, newdst 25 26)",
        "R(10.2.0.0/16, nhid 9) -R(10.1.0.0/16) L(25, oif 1) R(2001:db8::/32, table 10, oif 1)",
        "R(10.3.0.0/16, hops[(gw 10.0.12.2, label 7, weight 2) (gw 10.0.13.3)])",
    ];
    let bytes: Vec<u8> = lines.iter().flat_map(|line| frame(line).unwrap()).collect();
    let (mut decoder, mut unit) = (Decoder::new(), Unit::new());
    let mut tools = Tools::new(WireLimits::default());
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        match decoder.next(rest, Micros(1), &mut tools, &mut unit) {
            Step::Unit { consumed } | Step::Nothing { consumed } => rest = &rest[consumed..],
            step => panic!("{step:?}"),
        }
        assert_eq!(unit.rejected, []);
        found.extend(unit.mappings.iter().map(|mapping| {
            let branches: String = mapping.branches.iter().map(|it| format!(" {it}")).collect();
            format!("{} {}{branches}", mapping.key(), mapping.operation)
        }));
    }
    let expected = [
        "ftn ip:10.1.0.0/16 push 24/144@10.0.12.2",
        "ilm 24 platform swap 25/26@10.0.23.3",
        "ftn ip:10.2.0.0/16 push -@10.0.13.3*2 24@10.0.12.2*1",
        "ftn ip:10.1.0.0/16 none",
        "ilm 25 platform pop -@fec",
        "ftn ip:2001:db8::/32,10 push -@%ifindex:1",
        "ftn ip:10.3.0.0/16 push -@10.0.13.3%ifindex:3*1 7@10.0.12.2%ifindex:3*2",
    ];
    assert_eq!(found, expected);
    for bad in ["X(1)", "R(10.1.0.0)", "R(10.1.0.0/16, gateway 1)", "L(24, hops[gw 1])", "R("] {
        assert!(frame(bad).is_err(), "{bad}");
    }
}
