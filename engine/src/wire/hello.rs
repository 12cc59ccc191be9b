//! The hello document: what a sender says of itself before anything else.
//!
//! In:   the payload of a hello frame; or what a sender has to say.
//! Out:  a `Hello`; or the document.
//! Law:  a hello that cannot be read is refused: nothing can be vouched for without it.
//! Not:  whether this sender may speak for that router (`policy`).

use std::fmt::Write;

use storage::interface::Interface;
use storage::mapping::{Name, RouterId};
use storage::row::Cause;
use storage::time::Micros;

use super::xml::markup::{Element, Space, Visitor, walk};
use super::xml::write::{escape_attribute, write_time};
use super::xml::{NAMESPACE, value};
use super::{Hello, Rejection, WireLimits};

/// Bytes of a hello document.
pub const HELLO_BYTES_MAX: usize = 256 << 10;
/// Interfaces of one hello.
pub const INTERFACES_MAX: usize = 4_096;
/// Bytes of the agent's name and version.
pub const AGENT_BYTES_MAX: usize = 256;

/// Reads a hello document. Errors: `hello-invalid`, with what was expected and found.
pub fn read_hello(text: &[u8], limits: &WireLimits) -> Result<Hello, Rejection> {
    let mut reader = Reader { hello: None, depth: 0 };
    walk(text, limits, &mut reader)
        .map_err(|rejection| Rejection { cause: Cause::HelloInvalid, ..rejection })?;
    reader.hello.ok_or_else(|| invalid("no hello element"))
}

fn invalid(detail: impl std::fmt::Display) -> Rejection {
    Rejection::new(Cause::HelloInvalid, format_args!("hello: {detail}"))
}

struct Reader {
    hello: Option<Hello>,
    depth: usize,
}

impl Visitor for Reader {
    fn open(&mut self, element: &Element<'_>) -> Result<(), Rejection> {
        self.depth += 1;
        match &mut self.hello {
            None => self.hello = Some(read_root(element)?),
            Some(hello) if self.depth == 2 && element.name == "interface" => {
                if hello.interfaces.len() == INTERFACES_MAX {
                    return Err(invalid(format_args!("more than {INTERFACES_MAX} interfaces")));
                }
                hello.interfaces.push(read_interface(element)?);
            }
            // Unknown elements: a later version of the protocol may say more.
            Some(_) => {}
        }
        Ok(())
    }

    fn close(&mut self, _end: usize) -> Result<(), Rejection> {
        self.depth -= 1;
        Ok(())
    }
}

fn read_root(element: &Element<'_>) -> Result<Hello, Rejection> {
    if element.name != "hello" || element.space == Space::Other {
        return Err(invalid(format_args!("expected hello in {NAMESPACE}, found {}", element.name)));
    }
    const NUMBER: &str = "a number from 1";
    const TIME: &str = "seconds such as 1286724601.674842";
    let sequence_first = required(element, "sequence-first", NUMBER, sequence)?;
    let sequence_fresh =
        optional(element, "sequence-fresh", NUMBER, sequence)?.unwrap_or(sequence_first);
    if sequence_fresh < sequence_first {
        let detail = format_args!("sequence-fresh {sequence_fresh} before {sequence_first}, first");
        return Err(invalid(detail));
    }
    let agent = element.attribute("agent").unwrap_or_default();
    if agent.len() > AGENT_BYTES_MAX {
        return Err(invalid(format_args!("an agent of more than {AGENT_BYTES_MAX} bytes")));
    }
    let flag = |name, default| {
        Ok::<bool, Rejection>(
            optional(element, name, "true or false", value::boolean)?.unwrap_or(default),
        )
    };
    Ok(Hello {
        router: required(element, "router-id", "an address", value::router)?,
        boot_time: required(element, "boot-time", TIME, value::time)?,
        sequence_first,
        sequence_fresh,
        permanent: optional(element, "session", "permanent or on-demand", session)?.unwrap_or(true),
        acks: flag("acks", false)?,
        snapshot: flag("snapshot", true)?,
        clock: required(element, "clock", TIME, value::time)?,
        interfaces: Vec::new(),
        agent: agent.into(),
    })
}

fn read_interface(element: &Element<'_>) -> Result<Interface, Rejection> {
    let name = optional(element, "name", "1 to 64 bytes without control characters", Name::new)?;
    let interface = Interface {
        name: name.map(|name| name.as_str().into()).unwrap_or_default(),
        address: optional(element, "address", "an address", value::address)?,
        neighbour: optional(element, "neighbour", "a router id", value::router)?,
        table: optional(element, "table", "a number", value::number)?,
    };
    if interface.name.is_empty() && interface.address.is_none() {
        return Err(invalid("interface: expected a name, an address or both, found neither"));
    }
    Ok(interface)
}

fn sequence(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|sequence| *sequence > 0)
}

fn session(text: &str) -> Option<bool> {
    match text {
        "permanent" => Some(true),
        "on-demand" => Some(false),
        _ => None,
    }
}

fn optional<T>(
    element: &Element<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Rejection> {
    let Some(text) = element.attribute(name) else { return Ok(None) };
    let wrong = || invalid(format_args!("{name}: expected {expected}, found `{text}`"));
    parse(text).map(Some).ok_or_else(wrong)
}

fn required<T>(
    element: &Element<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Rejection> {
    optional(element, name, expected, parse)?
        .ok_or_else(|| invalid(format_args!("{name} is missing, expected {expected}")))
}

/// Appends the hello document.
pub fn write_hello(hello: &Hello, out: &mut String) {
    let Hello { router, sequence_first, sequence_fresh, acks, snapshot, .. } = hello;
    let session = if hello.permanent { "permanent" } else { "on-demand" };
    write_router(*router, out);
    write_instant("boot-time", hello.boot_time, out);
    write!(
        out,
        " sequence-first=\"{sequence_first}\" sequence-fresh=\"{sequence_fresh}\" \
         session=\"{session}\" acks=\"{acks}\" snapshot=\"{snapshot}\""
    )
    .expect("a string takes every text");
    write_instant("clock", hello.clock, out);
    out.push_str(" agent=\"");
    escape_attribute(&hello.agent, out);
    out.push_str("\">\n");
    hello.interfaces.iter().for_each(|interface| write_interface(interface, out));
    out.push_str("</hello>\n");
}

fn write_interface(interface: &Interface, out: &mut String) {
    let Interface { name, address, neighbour, table } = interface;
    out.push_str("<interface");
    if !name.is_empty() {
        out.push_str(" name=\"");
        escape_attribute(name, out);
        out.push('"');
    }
    let mut attribute = |name: &str, value: &dyn std::fmt::Display| {
        write!(out, " {name}=\"{value}\"").expect("a string takes every text");
    };
    if let Some(address) = address {
        attribute("address", address);
    }
    if let Some(neighbour) = neighbour {
        attribute("neighbour", neighbour);
    }
    if let Some(table) = table {
        attribute("table", table);
    }
    out.push_str("/>\n");
}

fn write_router(router: RouterId, out: &mut String) {
    write!(out, "<hello xmlns=\"{NAMESPACE}\" router-id=\"{router}\"")
        .expect("a string takes every text");
}

fn write_instant(name: &str, time: Micros, out: &mut String) {
    write!(out, " {name}=\"").expect("a string takes every text");
    write_time(time, out);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any};
    use proptest::sample::{Index, select};

    use super::*;
    use crate::harmless::is_obeyed;

    fn hello() -> Hello {
        Hello {
            router: RouterId("192.0.2.1".parse().unwrap()),
            boot_time: Micros(1_286_720_000_000_001),
            sequence_first: 41,
            sequence_fresh: 44,
            permanent: true,
            acks: true,
            snapshot: true,
            clock: Micros(1_286_724_601_674_842),
            interfaces: vec![
                Interface::of_address("10.0.0.1".parse().unwrap()),
                Interface {
                    name: "ge-0/0/\"1\"".into(),
                    address: Some("2001:db8::1".parse().unwrap()),
                    neighbour: Some(RouterId("192.0.2.9".parse().unwrap())),
                    table: Some(7),
                },
                Interface { name: "Tu1".into(), ..Interface::default() },
            ],
            agent: "agent \"1\" <&>".into(),
        }
    }

    #[test]
    fn a_hello_survives_its_document() {
        let mut text = String::new();
        for hello in [hello(), Hello { permanent: false, acks: false, snapshot: false, ..hello() }]
        {
            text.clear();
            write_hello(&hello, &mut text);
            assert_eq!(read_hello(text.as_bytes(), &WireLimits::default()), Ok(hello), "{text}");
        }
    }

    #[test]
    fn a_hello_that_lacks_a_part_or_has_a_wrong_one_is_invalid() {
        let mut text = String::new();
        write_hello(&hello(), &mut text);
        for (part, instead) in [
            ("192.0.2.1", "R1"),
            (" sequence-first=\"41\"", ""),
            ("sequence-fresh=\"44\"", "sequence-fresh=\"40\""),
            ("\"41\"", "\"0\""),
            ("permanent", "sometimes"),
            ("acks=\"true\"", "acks=\"yes\""),
            ("1286720000.000001", "yesterday"),
            ("<hello", "<!DOCTYPE hello><hello"),
            ("<interface address=\"10.0.0.1\"", "<interface address=\"10.0.0\""),
            (NAMESPACE, "urn:another"),
            ("</hello>", ""),
        ] {
            assert!(text.contains(part), "{part}");
            let wrong = text.replacen(part, instead, 1);
            let cause = read_hello(wrong.as_bytes(), &WireLimits::default()).map_err(|r| r.cause);
            assert_eq!(cause, Err(Cause::HelloInvalid), "{wrong}");
        }
        let more = text.replace("</hello>", "<weather><interface/></weather></hello>");
        assert_eq!(read_hello(more.as_bytes(), &WireLimits::default()), Ok(hello()));
    }

    /// Words that a hello has, right and wrong, and what XML makes of them.
    const WORDS: [&str; 24] = [
        "<",
        ">",
        "/>",
        "</hello>",
        "\"",
        "'",
        "&",
        "&#x202e;",
        "&#0;",
        "&lt;",
        "<!--",
        "]]>",
        "=",
        " router-id=",
        " clock=",
        "99999999999999999999",
        "-1",
        "1e400",
        "\u{9b}",
        "\u{202e}",
        "\0",
        "xmlns=",
        "<interface/>",
        "<interface name='&#10;'/>",
    ];

    proptest::proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Whatever comes as hello is read, or refused with words that can be shown to anybody.
        #[test]
        fn an_odd_hello_is_read_or_refused_with_words(
            changes in proptest::collection::vec(
                (any::<Index>(), 0..40_usize, proptest::option::of(select(WORDS.to_vec()))), 0..6),
            noise in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..3),
            end in proptest::option::weighted(0.2, any::<Index>()),
        ) {
            let mut text = String::new();
            write_hello(&hello(), &mut text);
            let mut bytes = text.into_bytes();
            for (at, length, word) in changes {
                let at = at.index(bytes.len() + 1);
                let until = (at + length).min(bytes.len());
                bytes.splice(at..until, word.unwrap_or_default().bytes());
            }
            for (at, byte) in noise {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, [byte]);
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            match read_hello(&bytes, &WireLimits::default()) {
                Ok(hello) => {
                    // What has been read can be said again.
                    let mut text = String::new();
                    write_hello(&hello, &mut text);
                    let again = read_hello(text.as_bytes(), &WireLimits::default());
                    proptest::prop_assert_eq!(again, Ok(hello));
                }
                Err(Rejection { cause, detail }) => {
                    proptest::prop_assert_eq!(cause, Cause::HelloInvalid);
                    proptest::prop_assert!(detail.len() > 10 && detail.len() <= 200, "{}", detail);
                    proptest::prop_assert!(!detail.contains(is_obeyed), "{:?}", detail);
                }
            }
        }
    }
}
