//! Addresses and prefixes as text: one spelling of one address.
//!
//! In:   addresses and prefixes as routers, settings and operators write them.
//! Out:  the same, with IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2) as the IPv4 that it is.
//! Law:  two spellings of one address compare equal everywhere.
//! Not:  which router owns an address (`history`).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// An address, IPv4 when it is IPv4-mapped.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// `10.0.0.0/8`, or an address alone for a host prefix; not masked.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    let prefix = text.parse::<IpNet>().ok();
    prefix.map(canonical_prefix).or_else(|| parse_address(text).map(IpNet::from))
}

/// The prefix, of IPv4 when every address in it is IPv4-mapped.
pub fn canonical_prefix(prefix: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let (IpNet::V6(prefix6), IpAddr::V4(address)) = (prefix, prefix.addr().to_canonical()) else {
        return prefix;
    };
    let length = prefix6.prefix_len().checked_sub(MAPPED_BITS);
    let prefix4 = length.and_then(|length| Ipv4Net::new(address, length).ok());
    prefix4.map_or(prefix, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_address() {
        assert_eq!(parse_address("::ffff:10.0.13.3"), parse_address("10.0.13.3"));
        assert_eq!(parse_address("::ffff:a00:d03"), parse_address("10.0.13.3"));
        assert_eq!(parse_prefix("::ffff:10.0.13.3"), parse_prefix("10.0.13.3/32"));
        assert_eq!(parse_prefix("::ffff:10.0.0.0/104"), parse_prefix("10.0.0.0/8"));
        // It covers more than mapped addresses.
        let wide = parse_prefix("::ffff:0:0/95").unwrap();
        assert!(matches!(wide, IpNet::V6(_)), "{wide}");
    }
}
