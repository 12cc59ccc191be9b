//! Forwarding equivalence classes: what traffic an entry is for.
//!
//! In:   values that the wire decoders and the log reader build, or the text of a command line.
//! Out:  `Fec`, comparable and printable; every part of it is identity.
//! Law:  a FEC survives its text; prefixes are masked, so that equal FECs compare equal.
//! Not:  which entry a packet of a FEC meets (`history::walk`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::address::{canonical_prefix, parse_prefix};
use super::{ModelParseError, Name, RouteDistinguisher};

/// Forwarding equivalence class (RFC 3031 section 2.1; draft section 3.2.1). Every part is
/// identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fec {
    /// An IP prefix. `table` 0 is the global table; others are the router's own numbers.
    Ip {
        /// Masked prefix.
        prefix: IpNet,
        /// Routing table, 0 = global.
        table: u32,
    },
    /// A VRF of an egress PE, or one prefix of it (RFC 4364).
    Vrf {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Route distinguisher of the VRF.
        rd: RouteDistinguisher,
        /// The customer's prefix, when labels are given per prefix.
        prefix: Option<IpNet>,
    },
    /// A VPLS instance of a PE (RFC 4664).
    Vsi {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Pseudowire id.
        pw_id: u32,
    },
    /// A VPWS attachment circuit of a PE (RFC 4664).
    Ac {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Pseudowire id.
        pw_id: u32,
    },
    /// The router cannot tell (explicitly routed or manual LSPs, entries learnt over FPM).
    Unknown,
    /// The packets to an IP prefix that also come from a source prefix or carry a TOS
    /// (source-specific routing, RTA_SRC and rtm_tos of rtnetlink).
    IpFrom {
        /// Masked prefix of the destination.
        prefix: IpNet,
        /// Routing table, 0 = global.
        table: u32,
        /// Masked prefix of the source; `None` = any.
        source: Option<IpNet>,
        /// Type of service; 0 = any.
        tos: u8,
    },
    /// A VRF by the name that this router calls it, or one prefix of it. Another router may call
    /// the same VRF otherwise.
    VrfName {
        /// Its name on this router.
        name: Name,
        /// The customer's prefix, when labels are given per prefix.
        prefix: Option<IpNet>,
    },
    /// Something else that has a name: opaque, comparable, askable.
    Named {
        /// What kind of thing.
        kind: NameKind,
        /// Its name.
        name: Name,
    },
    /// What comes in by an interface of this router, or leaves by it (CCC, VPLS, l2circuit).
    Interface {
        /// The interface's name on this router.
        name: Name,
    },
}

/// What a FEC by name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// A prefix segment (RFC 8660): its index or SID.
    SrPrefix,
    /// An adjacency segment (RFC 8660).
    SrAdjacency,
    /// An LSP of RSVP-TE (RFC 3209): its session name.
    Rsvp,
    /// A tree of multipoint LDP (RFC 6388): root and opaque value.
    Mldp,
    /// A policy or tunnel bound to a label (binding SID, RFC 9256).
    TeBinding,
    /// Anything else.
    Other,
}

impl NameKind {
    /// Every kind; the index is its code on disk.
    pub const ALL: [NameKind; 6] = [
        NameKind::SrPrefix,
        NameKind::SrAdjacency,
        NameKind::Rsvp,
        NameKind::Mldp,
        NameKind::TeBinding,
        NameKind::Other,
    ];

    /// The word on the wire and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            NameKind::SrPrefix => "sr-prefix",
            NameKind::SrAdjacency => "sr-adjacency",
            NameKind::Rsvp => "rsvp",
            NameKind::Mldp => "mldp",
            NameKind::TeBinding => "te-binding",
            NameKind::Other => "other",
        }
    }

    /// The kind of this word, in any case.
    pub fn parse(text: &str) -> Option<NameKind> {
        NameKind::ALL.into_iter().find(|kind| text.eq_ignore_ascii_case(kind.name()))
    }
}

impl Fec {
    /// The same FEC in its one form: prefixes masked, IPv4-mapped ones as IPv4, and an `IpFrom`
    /// that selects nothing as the `Ip` that it is.
    pub fn masked(self) -> Fec {
        let mask = |prefix: IpNet| canonical_prefix(prefix).trunc();
        match self {
            Fec::Ip { prefix, table } | Fec::IpFrom { prefix, table, source: None, tos: 0 } => {
                Fec::Ip { prefix: mask(prefix), table }
            }
            Fec::IpFrom { prefix, table, source, tos } => {
                let source = source.map(mask).filter(|source| source.prefix_len() > 0);
                match (source, tos) {
                    (None, 0) => Fec::Ip { prefix: mask(prefix), table },
                    _ => Fec::IpFrom { prefix: mask(prefix), table, source, tos },
                }
            }
            Fec::Vrf { loopback, rd, prefix } => {
                Fec::Vrf { loopback: loopback.to_canonical(), rd, prefix: prefix.map(mask) }
            }
            Fec::VrfName { name, prefix } => Fec::VrfName { name, prefix: prefix.map(mask) },
            Fec::Vsi { loopback, pw_id } => Fec::Vsi { loopback: loopback.to_canonical(), pw_id },
            Fec::Ac { loopback, pw_id } => Fec::Ac { loopback: loopback.to_canonical(), pw_id },
            Fec::Unknown | Fec::Named { .. } | Fec::Interface { .. } => self,
        }
    }

    /// Whether it is a customer's: its packets mean nothing to the global table.
    pub fn is_service(&self) -> bool {
        match self {
            Fec::Ip { table, .. } | Fec::IpFrom { table, .. } => *table != 0,
            Fec::Vrf { .. }
            | Fec::VrfName { .. }
            | Fec::Vsi { .. }
            | Fec::Ac { .. }
            | Fec::Interface { .. } => true,
            Fec::Unknown | Fec::Named { .. } => false,
        }
    }

    /// The egress PE's loopback of a service FEC; `None` for all others.
    pub fn loopback(&self) -> Option<IpAddr> {
        match *self {
            Fec::Vrf { loopback, .. } | Fec::Vsi { loopback, .. } | Fec::Ac { loopback, .. } => {
                Some(loopback)
            }
            Fec::Ip { .. }
            | Fec::IpFrom { .. }
            | Fec::VrfName { .. }
            | Fec::Named { .. }
            | Fec::Interface { .. }
            | Fec::Unknown => None,
        }
    }
}

impl fmt::Display for Fec {
    /// As written on the command line: `ip:10.0.0.3/32`, `ip:10.0.0.0/8,254` (table),
    /// `ip:10.0.0.0/8,from=192.0.2.0/24,tos=4`, `vrf:192.0.2.3,65000:2[,prefix]`,
    /// `vsi:192.0.2.3,17`, `ac:192.0.2.3,17`, `vrf-name:red[,prefix]`, `name:rsvp,to-pe3`,
    /// `interface:xe-0/0/1.100`, `unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fec::Ip { prefix, table } => fmt_ip(f, prefix, *table),
            Fec::IpFrom { prefix, table, source, tos } => {
                fmt_ip(f, prefix, *table)?;
                source.map_or(Ok(()), |source| write!(f, ",from={source}"))?;
                if *tos > 0 { write!(f, ",tos={tos}") } else { Ok(()) }
            }
            Fec::Vrf { loopback, rd, prefix: None } => write!(f, "vrf:{loopback},{rd}"),
            Fec::Vrf { loopback, rd, prefix: Some(prefix) } => {
                write!(f, "vrf:{loopback},{rd},{prefix}")
            }
            Fec::Vsi { loopback, pw_id } => write!(f, "vsi:{loopback},{pw_id}"),
            Fec::Ac { loopback, pw_id } => write!(f, "ac:{loopback},{pw_id}"),
            Fec::VrfName { name, prefix: Some(prefix) } => write!(f, "vrf-name:{name},{prefix}"),
            // What follows the last comma is the prefix: here it is none.
            Fec::VrfName { name, prefix: None } if name.as_str().contains(',') => {
                write!(f, "vrf-name:{name},")
            }
            Fec::VrfName { name, prefix: None } => write!(f, "vrf-name:{name}"),
            Fec::Named { kind, name } => write!(f, "name:{},{name}", kind.name()),
            Fec::Interface { name } => write!(f, "interface:{name}"),
            Fec::Unknown => f.write_str("unknown"),
        }
    }
}

fn fmt_ip(f: &mut fmt::Formatter<'_>, prefix: &IpNet, table: u32) -> fmt::Result {
    write!(f, "ip:{prefix}")?;
    if table > 0 { write!(f, ",{table}") } else { Ok(()) }
}

impl FromStr for Fec {
    type Err = ModelParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_fec(text).map(Fec::masked).ok_or_else(|| ModelParseError {
            what: "FEC",
            text: text.to_owned(),
            expected: "ip:10.0.0.3/32[,table][,from=prefix][,tos=number], \
                       vrf:192.0.2.3,65000:2[,prefix], vrf-name:red[,prefix], vsi:192.0.2.3,17, \
                       ac:192.0.2.3,17, name:rsvp,to-pe3, interface:xe-0/0/1.100 or unknown",
        })
    }
}

fn parse_fec(text: &str) -> Option<Fec> {
    if text.eq_ignore_ascii_case("unknown") {
        return Some(Fec::Unknown);
    }
    let (kind, rest) = text.split_once(':')?;
    match kind.to_ascii_lowercase().as_str() {
        "ip" => parse_ip(rest),
        "vrf" => {
            let (loopback, rest) = rest.split_once(',')?;
            let (rd, prefix) = match rest.split_once(',') {
                Some((rd, prefix)) => (rd, Some(parse_prefix(prefix)?)),
                None => (rest, None),
            };
            Some(Fec::Vrf { loopback: parse_host(loopback)?, rd: rd.parse().ok()?, prefix })
        }
        "vsi" => parse_wire(rest).map(|(loopback, pw_id)| Fec::Vsi { loopback, pw_id }),
        "ac" => parse_wire(rest).map(|(loopback, pw_id)| Fec::Ac { loopback, pw_id }),
        "vrf-name" => parse_vrf_name(rest),
        "name" => {
            let (kind, name) = rest.split_once(',')?;
            Some(Fec::Named { kind: NameKind::parse(kind)?, name: Name::new(name)? })
        }
        "interface" => Some(Fec::Interface { name: Name::new(rest)? }),
        _ => None,
    }
}

fn parse_ip(text: &str) -> Option<Fec> {
    let mut parts = text.split(',');
    let prefix = parse_prefix(parts.next()?)?;
    let (mut table, mut source, mut tos) = (0, None, 0);
    for part in parts {
        match part.split_once('=') {
            None => table = part.parse().ok()?,
            Some(("from", prefix)) => source = Some(parse_prefix(prefix)?),
            Some(("tos", number)) => tos = number.parse().ok()?,
            Some(_) => return None,
        }
    }
    Some(Fec::IpFrom { prefix, table, source, tos })
}

fn parse_wire(text: &str) -> Option<(IpAddr, u32)> {
    let (loopback, pw_id) = text.split_once(',')?;
    Some((parse_host(loopback)?, pw_id.parse().ok()?))
}

/// The prefix, if there is one, follows the last comma.
fn parse_vrf_name(text: &str) -> Option<Fec> {
    let last = text.rsplit_once(',');
    let (name, prefix) = match last {
        Some((name, "")) => (name, None),
        Some((name, last)) => match parse_prefix(last) {
            Some(prefix) => (name, Some(prefix)),
            None => (text, None),
        },
        None => (text, None),
    };
    Some(Fec::VrfName { name: Name::new(name)?, prefix })
}

/// An address, with or without the length of a host prefix.
fn parse_host(text: &str) -> Option<IpAddr> {
    let prefix = parse_prefix(text)?;
    (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fec_survives_its_text() {
        let texts = [
            "ip:10.0.0.3/32",
            "ip:10.0.0.0/8,254",
            "ip:2001:db8::/32",
            "ip:2001:db8:1::/48,from=2001:db8:2::/48",
            "ip:10.0.0.0/8,254,from=192.0.2.0/24,tos=4",
            "ip:10.0.0.0/8,tos=4",
            "vrf:192.0.2.3,65000:2",
            "vrf:192.0.2.3,192.0.2.1:2,10.1.0.0/16",
            "vrf:2001:db8::3,65000:2,2001:db8:1::/48",
            "vsi:192.0.2.3,17",
            "ac:192.0.2.3,17",
            "vrf-name:red",
            "vrf-name:red,10.1.0.0/16",
            "vrf-name:red,blue,10.1.0.0/16",
            "vrf-name:red,10.1.0.0/16,",
            "vrf-name:red,,",
            "name:rsvp,pe1-to-pe3, protected",
            "name:mldp,192.0.2.1 0x0001",
            "interface:xe-0/0/1.100",
            "unknown",
        ];
        for text in texts {
            assert_eq!(text.parse::<Fec>().map(|fec| fec.to_string()).as_deref(), Ok(text));
        }
        let same = [
            ("ip:10.1.2.3/8", "ip:10.0.0.0/8"),
            ("IP:10.1.2.3/8,0", "ip:10.0.0.0/8"),
            ("ip:10.0.0.0/8,from=0.0.0.0/0", "ip:10.0.0.0/8"),
            ("ip:::ffff:10.1.2.3", "ip:10.1.2.3/32"),
            ("vrf:192.0.2.3/32,65000:2", "vrf:192.0.2.3,65000:2"),
            ("vrf:::ffff:192.0.2.3,65000:2", "vrf:192.0.2.3,65000:2"),
            ("vrf-name:a,b", "vrf-name:a,b,"),
        ];
        for (text, expected) in same {
            assert_eq!(text.parse::<Fec>().map(|fec| fec.to_string()).as_deref(), Ok(expected));
        }
        for bad in [
            "vrf:192.0.2.3",
            "vrf:192.0.2.0/24,65000:2",
            "ip:10.0.0.0/33",
            "ip:10.0.0.0/8,x",
            "name:tunnel,a",
            "name:rsvp,",
            "interface:",
        ] {
            assert!(bad.parse::<Fec>().is_err(), "{bad}");
        }
    }
}
