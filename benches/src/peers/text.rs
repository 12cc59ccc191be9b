//! What a mapping looks like where it is no document: one line, with the same fields.
//!
//! In:   a router and a mapping.
//! Out:  the line that a sensible user of a system would send to it.
//! Law:  every form says who, when, which FEC and ingress label, which operation and branches.
//! Not:  how many lines, over how many connections (`offer`, `feeder`).

use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;

use storage::mapping::{Mapping, NextHop, RouterId};

/// How a mapping is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 5424, one message per line.
    Syslog,
    /// Tabs between columns, as bulk inserts take them.
    Tsv,
    /// InfluxDB's line protocol: who and what are tags, labels and next hops are values.
    Influx,
    /// Xymon's `status` of a column per entry of a router's table.
    Status,
}

impl Form {
    /// Every form.
    pub(crate) const ALL: [Form; 4] = [Form::Syslog, Form::Tsv, Form::Influx, Form::Status];

    /// Its word among the arguments of a role.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Syslog => "syslog",
            Form::Tsv => "tsv",
            Form::Influx => "influx",
            Form::Status => "status",
        }
    }

    /// Appends a mapping, its end of line included.
    pub(crate) fn write(self, router: RouterId, mapping: &Mapping, out: &mut Vec<u8>) {
        match self {
            Form::Syslog => {
                let time = mapping.event_time;
                put(out, format_args!("<134>1 {time} {router} lfib - mapping - "));
                put_fields(mapping, out);
            }
            Form::Tsv => put_tsv(router, mapping, out),
            Form::Influx => put_influx(router, mapping, out),
            Form::Status => {
                let (host, column) = (host(router), column(mapping));
                put(out, format_args!("status {host}.{column} "));
                put_status(mapping, out);
            }
        }
        out.push(b'\n');
    }
}

/// Name of a router among Xymon's hosts: a dot would end it.
pub(crate) fn host(router: RouterId) -> String {
    format!("r{router}").replace('.', "-")
}

/// Name of an entry of a router's table among Xymon's columns.
pub(crate) fn column(mapping: &Mapping) -> String {
    let key = format!("{}-{}", mapping.fec, ingress(mapping));
    key.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}

/// What a status says, its colour first, without the end of the line.
pub(crate) fn put_status(mapping: &Mapping, out: &mut Vec<u8>) {
    put(out, format_args!("green {} ", mapping.event_time));
    put_fields(mapping, out);
}

fn put_fields(mapping: &Mapping, out: &mut Vec<u8>) {
    let (fec, operation) = (mapping.fec, mapping.operation);
    put(out, format_args!("fec={fec} in={} op={operation} out=", ingress(mapping)));
    put_branches(mapping, out);
}

fn put_tsv(router: RouterId, mapping: &Mapping, out: &mut Vec<u8>) {
    let (time, fec, operation) = (mapping.event_time.0, mapping.fec, mapping.operation);
    put(out, format_args!("{time}\t{router}\t{fec}\t{}\t{operation}\t", ingress(mapping)));
    put_branches(mapping, out);
}

fn put_influx(router: RouterId, mapping: &Mapping, out: &mut Vec<u8>) {
    let (fec, operation) = (mapping.fec, mapping.operation);
    let ingress = ingress(mapping);
    put(out, format_args!("mapping,router={router},fec={fec},in={ingress},op={operation} "));
    for (place, branch) in mapping.branches.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let label = branch.stack.first().map_or(-1, |label| i64::from(label.value()));
        let next_hop = match branch.next_hop {
            NextHop::Address(IpAddr::V4(address)) => i64::from(u32::from(address)),
            // Addresses that are no number below 2^53 would have to be tags.
            NextHop::Address(IpAddr::V6(_))
            | NextHop::Fec
            | NextHop::Recursive
            | NextHop::Interface => -1,
        };
        put(out, format_args!("{comma}label{place}={label}i,next_hop{place}={next_hop}i"));
    }
    put(out, format_args!(" {}000", mapping.event_time.0));
}

/// The ingress label as every text form has it: -1 where there is none.
fn ingress(mapping: &Mapping) -> i64 {
    mapping.ingress.label.map_or(-1, |label| i64::from(label.value()))
}

fn put_branches(mapping: &Mapping, out: &mut Vec<u8>) {
    for (place, branch) in mapping.branches.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!("{comma}{branch}"));
    }
}

fn put(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}").expect("memory takes every byte");
}

#[cfg(test)]
mod tests {
    use storage::mapping::{Ingress, Label, Nhlfe, Operation, TimeSource};
    use storage::time::Micros;

    use super::*;

    fn line(form: Form) -> String {
        let label = |value| Label::new(value).expect("a label");
        let branch = |value, hop: &str| {
            Nhlfe::new(
                [label(value)].into_iter().collect(),
                NextHop::Address(hop.parse().expect("an address")),
            )
        };
        let mapping = Mapping {
            fec: "ip:10.1.2.0/24".parse().expect("a FEC"),
            ingress: Ingress::platform(label(77)),
            operation: Operation::Swap,
            branches: [branch(24, "11.0.0.1"), branch(25, "11.0.0.2")].into_iter().collect(),
            event_time: Micros(1_795_323_600_000_123),
            time_source: TimeSource::Router,
            extra: None,
        };
        let mut out = Vec::new();
        form.write(RouterId("127.64.0.1".parse().expect("an address")), &mapping, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_form_of_a_mapping_says_the_same() {
        let time = Micros(1_795_323_600_000_123);
        let fields = "fec=ip:10.1.2.0/24 in=77 op=swap out=24@11.0.0.1,25@11.0.0.2";
        let lines = [
            format!("<134>1 {time} 127.64.0.1 lfib - mapping - {fields}\n"),
            "1795323600000123\t127.64.0.1\tip:10.1.2.0/24\t77\tswap\t24@11.0.0.1,25@11.0.0.2\n"
                .to_owned(),
            "mapping,router=127.64.0.1,fec=ip:10.1.2.0/24,in=77,op=swap \
             label0=24i,next_hop0=184549377i,label1=25i,next_hop1=184549378i \
             1795323600000123000\n"
                .to_owned(),
            format!("status r127-64-0-1.ip-10-1-2-0-24-77 green {time} {fields}\n"),
        ];
        assert_eq!(Form::ALL.map(line), lines);
    }
}
