//! Netlink messages, written by hand.

use std::net::IpAddr;

use ipnet::IpNet;

/// Writes netlink messages in one byte order.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    pub(super) big: bool,
}

/// What of a route stands in its header.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) source_bits: u8,
    pub(super) tos: u8,
    pub(super) table: u8,
    pub(super) protocol: u8,
    pub(super) kind: u8,
    pub(super) flags: u32,
}

impl Default for Header {
    fn default() -> Header {
        Header { source_bits: 0, tos: 0, table: 254, protocol: 188, kind: 1, flags: 0 }
    }
}

impl Header {
    /// As zebra writes the prefix of an interface.
    pub(super) const CONNECTED: Header =
        Header { source_bits: 0, tos: 0, table: 254, protocol: 2, kind: 1, flags: 0 };
}

pub(super) const LITTLE: Writer = Writer { big: false };

impl Writer {
    pub(super) fn u16(self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub(super) fn u32(self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub(super) fn attribute(self, kind: u16, value: &[u8]) -> Vec<u8> {
        let bytes = u16::try_from(value.len() + 4).unwrap();
        let mut out = [self.u16(bytes), self.u16(kind)].concat();
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    pub(super) fn message(self, kind: u16, header: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = [header, &attributes.concat()].concat();
        let bytes = u32::try_from(body.len() + 16).unwrap();
        let head = [&self.u32(bytes)[..], &self.u16(kind), &[0; 10]].concat();
        let mut out = [head, body].concat();
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// A route of OSPF in table 254, by attributes beyond its destination.
    pub(super) fn route(self, kind: u16, prefix: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
        self.route_of(kind, prefix, Header::default(), attributes)
    }

    /// The same with another header.
    pub(super) fn route_of(
        self,
        kind: u16,
        prefix: &str,
        header: Header,
        attributes: &[Vec<u8>],
    ) -> Vec<u8> {
        let prefix: IpNet = prefix.parse().unwrap();
        let (family, address) = match prefix.addr() {
            IpAddr::V4(address) => (2, address.octets().to_vec()),
            IpAddr::V6(address) => (10, address.octets().to_vec()),
        };
        let Header { source_bits, tos, table, protocol, kind: fate, flags } = header;
        let bits = prefix.prefix_len();
        let header = [family, bits, source_bits, tos, table, protocol, 0, fate];
        let header = [&header[..], &self.u32(flags)].concat();
        let attributes = [&[self.attribute(1, &address)], attributes].concat();
        self.message(kind, &header, &attributes)
    }

    pub(super) fn label_route(self, kind: u16, label: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [28, 20, 0, 0, 254, 193, 0, 1, 0, 0, 0, 0];
        let attributes = [&[self.attribute(1, &stack(&[label]))], attributes].concat();
        self.message(kind, &header, &attributes)
    }

    pub(super) fn next_hop(self, id: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = [&[self.attribute(1, &self.u32(id))], attributes].concat();
        self.message(104, &[2, 0, 11, 0, 0, 0, 0, 0], &attributes)
    }

    pub(super) fn group(self, id: u32, members: &[(u32, u8)]) -> Vec<u8> {
        let members: Vec<u8> = members
            .iter()
            .flat_map(|(id, weight)| [&self.u32(*id)[..], &[*weight - 1, 0, 0, 0]].concat())
            .collect();
        self.next_hop(id, &[self.attribute(2, &members)])
    }

    pub(super) fn next_hop_deleted(self, id: u32) -> Vec<u8> {
        self.message(105, &[0; 8], &[self.attribute(1, &self.u32(id))])
    }

    pub(super) fn gateway(self, last: u8) -> Vec<u8> {
        self.attribute(5, &[10, 0, 0, last])
    }

    pub(super) fn via(self, last: u8) -> Vec<u8> {
        self.attribute(18, &[&self.u16(2)[..], &[10, 0, 0, last]].concat())
    }

    pub(super) fn interface(self) -> Vec<u8> {
        self.interface_of(3)
    }

    pub(super) fn interface_of(self, index: u32) -> Vec<u8> {
        self.attribute(4, &self.u32(index))
    }

    /// A gateway of another family than the route's, or none: family 17.
    pub(super) fn via_family(self, family: u16, address: &[u8]) -> Vec<u8> {
        self.attribute(18, &[&self.u16(family)[..], address].concat())
    }

    /// Encapsulation attributes of a route (21, 22) or of a next hop (7, 8).
    pub(super) fn labels(self, kind: u16, labels: &[u32]) -> [Vec<u8>; 2] {
        let nested = self.attribute(1, &stack(labels));
        [self.attribute(kind, &self.u16(1)), self.attribute(kind + 1, &nested)]
    }

    /// An encapsulation that is not labels, by its kind.
    pub(super) fn encapsulation(self, kind: u16, of: u16) -> [Vec<u8>; 2] {
        let inside = self.attribute(1, &[0x20, 1, 0x0d, 0xb8]);
        [self.attribute(kind, &self.u16(of)), self.attribute(kind + 1, &inside)]
    }

    /// A branch by interface 3.
    pub(super) fn branch(self, weight: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        self.branch_of(3, 0, weight, attributes)
    }

    pub(super) fn branch_of(
        self,
        interface: u32,
        flags: u8,
        weight: u8,
        attributes: &[Vec<u8>],
    ) -> Vec<u8> {
        let attributes = attributes.concat();
        let bytes = u16::try_from(attributes.len() + 8).unwrap();
        let head = [&self.u16(bytes)[..], &[flags, weight - 1], &self.u32(interface)].concat();
        [head, attributes].concat()
    }

    /// The branches of a route.
    pub(super) fn branches(self, branches: &[Vec<u8>]) -> Vec<u8> {
        self.attribute(9, &branches.concat())
    }
}

pub(super) fn stack(labels: &[u32]) -> Vec<u8> {
    let bottom = labels.len() - 1;
    let entry = |(index, label): (usize, &u32)| {
        (label << 12 | u32::from(index == bottom) << 8).to_be_bytes()
    };
    labels.iter().enumerate().flat_map(entry).collect()
}

pub(super) const NEW: u16 = 24;
pub(super) const DELETED: u16 = 25;
