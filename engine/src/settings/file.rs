//! The settings file: TOML text onto `Settings`.
//!
//! In:   the text of a file.
//! Out:  values set through the table of settings, and the list of routers.
//! Law:  what the file says and no setting knows is an error, never ignored.
//! Not:  ranges (`settings::table`), or opening the file (`main`).

use std::net::IpAddr;

use ipnet::IpNet;
use storage::interface::{Interface, is_link_local};
use storage::mapping::{Name, RouterId, parse_address, parse_prefix};
use toml::{Table, Value};

use super::{SettingError, Settings, table};
use crate::policy::RouterEntry;

pub(super) fn apply(settings: &mut Settings, text: &str) -> Result<(), SettingError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        let found = text.lines().nth(line - 1).unwrap_or_default().trim();
        SettingError::File { line, text: found.to_owned(), message: error.message().to_owned() }
    })?;
    for (name, value) in &table {
        match (name.as_str(), value) {
            ("router", Value::Array(entries)) => {
                for (index, entry) in entries.iter().enumerate() {
                    let entry = read_router(entry, index + 1)?;
                    check_unique(&settings.routers, &entry)?;
                    settings.routers.push(entry);
                }
            }
            ("router", other) => {
                let found = other.type_str();
                return Err(SettingError::value("router", found, "tables, written [[router]]"));
            }
            (name, value) => {
                let setting = table::find(name)?;
                settings.set(setting.name, &as_text(setting.name, value)?)?;
            }
        }
    }
    settings.routers.sort_by_key(|router| router.id);
    Ok(())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A value as the same text that a flag or a variable would carry.
fn as_text(name: &str, value: &Value) -> Result<String, SettingError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Array(items) => {
            let texts: Result<Vec<String>, _> =
                items.iter().map(|item| as_text(name, item)).collect();
            Ok(texts?.join(","))
        }
        other => Err(SettingError::value(name, &other.to_string(), "a text, a number or a list")),
    }
}

fn read_router(value: &Value, ordinal: usize) -> Result<RouterEntry, SettingError> {
    let place = |field: &str| format!("router {ordinal}: {field}");
    let Value::Table(table) = value else {
        let found = value.type_str();
        return Err(SettingError::value("router", found, "tables, written [[router]]"));
    };
    let mut id = None;
    let mut entry = RouterEntry::default();
    for (field, value) in table {
        let refuse = |allowed: &str| {
            SettingError::value(&place(field), value.to_string().trim_matches('"'), allowed)
        };
        match field.as_str() {
            "id" => {
                let parsed = value.as_str().and_then(|text| text.parse::<RouterId>().ok());
                id = Some(parsed.ok_or_else(|| refuse("an IPv4 or IPv6 address in quotes"))?);
            }
            "name" => {
                let name = value.as_str().filter(|name| is_name(name));
                entry.name = name.ok_or_else(|| refuse(NAME_ALLOWED))?.into();
            }
            "addresses" => {
                let addresses = strings(value, parse_address);
                let addresses = addresses.ok_or_else(|| refuse("a list of addresses"))?;
                entry.interfaces.extend(addresses.into_iter().map(Interface::of_address));
            }
            "interfaces" => {
                let interfaces = value.as_array().into_iter().flatten().map(read_interface);
                let interfaces: Option<Vec<Interface>> = interfaces.collect();
                let interfaces = interfaces.filter(|_| value.is_array());
                let interfaces = interfaces.ok_or_else(|| refuse(INTERFACES_ALLOWED))?;
                entry.interfaces.extend(interfaces);
            }
            "sources" => {
                let sources = strings(value, |text| parse_prefix(text).map(|p: IpNet| p.trunc()));
                entry.sources = sources.ok_or_else(|| refuse("a list of prefixes"))?;
                entry.sources.sort_unstable();
            }
            _ => {
                let nearest = table::nearest(field, ROUTER_FIELDS);
                return Err(SettingError::Unknown { name: place(field), nearest });
            }
        }
    }
    entry.id = id.ok_or_else(|| {
        SettingError::value(&place("id"), "missing", "an IPv4 or IPv6 address in quotes")
    })?;
    entry.interfaces.sort_unstable();
    entry.interfaces.dedup();
    Ok(entry)
}

const ROUTER_FIELDS: [&str; 5] = ["id", "name", "addresses", "interfaces", "sources"];

const INTERFACES_ALLOWED: &str = "a list of tables such as \
    { name = \"eth0\", address = \"10.0.0.1\", neighbour = \"192.0.2.9\", table = 7 }, \
    each with a name or an address";

/// One interface; `None` when something in it is no value of its field.
fn read_interface(value: &Value) -> Option<Interface> {
    let mut interface = Interface::default();
    for (field, value) in value.as_table()? {
        match field.as_str() {
            "name" => interface.name = Name::new(value.as_str()?)?.as_str().into(),
            "address" => interface.address = Some(parse_address(value.as_str()?)?),
            "neighbour" => interface.neighbour = Some(value.as_str()?.parse().ok()?),
            "table" => interface.table = Some(u32::try_from(value.as_integer()?).ok()?),
            _ => return None,
        }
    }
    (!interface.name.is_empty() || interface.address.is_some()).then_some(interface)
}

/// A name must not be taken for an id, and must survive a shell and a CSV file.
fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    letters && (1..=64).contains(&name.len()) && name.parse::<RouterId>().is_err() && name != "all"
}

const NAME_ALLOWED: &str =
    "1 to 64 of a-z A-Z 0-9 - _ . that are no address, and not the word `all`";

fn strings<T>(value: &Value, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(|item| parse(item.as_str()?)).collect()
}

fn check_unique(routers: &[RouterEntry], entry: &RouterEntry) -> Result<(), SettingError> {
    for other in routers {
        if other.id == entry.id {
            let id = entry.id.to_string();
            return Err(SettingError::value("router: id", &id, "each id once"));
        }
        if !entry.name.is_empty() && other.name == entry.name {
            return Err(SettingError::value("router: name", &entry.name, "each name once"));
        }
        // Link-local addresses are those of many links, and so is any that names its neighbour.
        let alone = |interface: &&Interface| {
            interface.neighbour.is_none() && interface.address.is_some_and(|it| !is_link_local(it))
        };
        let mut own = entry.interfaces.iter().filter(alone).filter_map(|it| it.address);
        let owns = |address: &IpAddr| {
            other.interfaces.iter().filter(alone).any(|it| it.address == Some(*address))
        };
        if let Some(address) = own.find(owns) {
            let allowed = format!(
                "each address with one router, because next hops are resolved by it, and router {} \
                 has it; or in `interfaces` of both with the neighbour behind it, such as \
                 {{ address = \"{address}\", neighbour = \"192.0.2.9\" }}",
                other.id
            );
            return Err(SettingError::value("router: addresses", &address.to_string(), &allowed));
        }
    }
    Ok(())
}
