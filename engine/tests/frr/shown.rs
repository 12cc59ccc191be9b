//! What an FRR router shows of its tables, as the entries that the collector should hold.
//!
//! In:   `show mpls table json` and `show ip route json`, of the main table and of VRFs.
//! Out:  entries by key.
//! Law:  nothing is taken from FPM: FRR's own words for interfaces, tables and dropped packets.
//! Not:  where the files lie (`capture`).

use std::collections::BTreeMap;

use serde_json::Value;
use storage::mapping::{
    Fec, Key, Label, LabelStack, Link, Name, NextHop, Nhlfe, Operation, Origin,
};

use super::Entries;

/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u32 = 254;
/// The loopback's index in every network namespace.
const INTERFACE_LOOPBACK: u32 = 1;

type Entry = (Key, (Operation, Vec<Nhlfe>));

/// The entries of the tables that are shown.
pub(crate) fn entries(labels: &[Value], routes: &[Value]) -> Entries {
    let routes: Vec<(&String, &Value)> = routes.iter().flat_map(of_vrfs).collect();
    let interfaces = Interfaces::of(&routes);
    let labels = labels.iter().flat_map(|table| table.as_object().unwrap().values());
    let labels = labels.filter_map(|label| ilm_entry(label, &interfaces));
    labels.chain(routes.iter().filter_map(|route| ftn_entry(*route))).collect()
}

/// `{PREFIX: [route, ...]}` of one VRF, or `{VRF: {PREFIX: [route, ...]}}` of several.
fn of_vrfs(shown: &Value) -> Vec<(&String, &Value)> {
    shown.as_object().unwrap().iter().flat_map(of_vrf).collect()
}

fn of_vrf<'a>((name, value): (&'a String, &'a Value)) -> Vec<(&'a String, &'a Value)> {
    value.as_object().map_or(vec![(name, value)], |vrf| vrf.iter().collect())
}

/// `show mpls table` says no index of an interface: `show ip route` has those of neighbours and of
/// names.
struct Interfaces<'a>(BTreeMap<&'a str, u32>);

impl Interfaces<'_> {
    fn of<'a>(routes: &[(&'a String, &'a Value)]) -> Interfaces<'a> {
        let routes = routes.iter().flat_map(|(_, routes)| routes.as_array().unwrap());
        let hops = routes.flat_map(|route| route["nexthops"].as_array().unwrap());
        let names = hops.flat_map(|hop| {
            let index = hop["interfaceIndex"].as_u64().and_then(|index| u32::try_from(index).ok());
            let names = [&hop["ip"], &hop["interfaceName"]].into_iter().filter_map(Value::as_str);
            names.filter_map(move |name| Some((name, index?)))
        });
        Interfaces(names.collect())
    }

    fn index(&self, name: &Value) -> Option<u32> {
        let name = name.as_str()?;
        Some(*self.0.get(name).unwrap_or_else(|| panic!("{name}: expected a route by it")))
    }
}

/// `{"inLabel":16,"nexthops":[{"outLabelStack":[3],"installed":true,"nexthop":"10.12.0.1"}]}`, or
/// `"interface":"red"` of a next hop that is a VRF's or a customer's interface.
fn ilm_entry(shown: &Value, interfaces: &Interfaces<'_>) -> Option<Entry> {
    let label = Label::new(number(&shown["inLabel"])).unwrap();
    let hops: Vec<&Value> = shown["nexthops"].as_array().unwrap().iter().collect();
    let hops: Vec<&&Value> = hops.iter().filter(|hop| is_set(hop, "installed")).collect();
    let swaps =
        |hop: &&&Value| hop["nexthop"].is_string() || !pushed(&hop["outLabelStack"]).is_empty();
    let swaps = hops.iter().any(swaps);
    let branch = |hop: &&Value| {
        let stack = pushed(&hop["outLabelStack"]);
        let null = LabelStack::from_iter([Label::IMPLICIT_NULL]);
        let index = interfaces.index(&hop["nexthop"]).or(interfaces.index(&hop["interface"]));
        let next_hop = match (address(&hop["nexthop"]), stack.is_empty()) {
            (Some(next_hop), _) => next_hop,
            (None, true) => NextHop::Fec,
            (None, false) => NextHop::Interface,
        };
        let stack = if stack.is_empty() && swaps { null } else { stack };
        Nhlfe::new(stack, next_hop).with_link(link(index))
    };
    let operation = if swaps { Operation::Swap } else { Operation::Pop };
    let branches = sorted(hops.into_iter().map(branch).collect());
    (!branches.is_empty()).then_some((Key::Ilm(label, Origin::Platform), (operation, branches)))
}

/// Of `show ip route json`: the selected, installed routes with their forwarding next hops.
fn ftn_entry((prefix, routes): (&String, &Value)) -> Option<Entry> {
    let selected = |route: &&Value| is_set(route, "selected") && is_set(route, "installed");
    let route = routes.as_array().unwrap().iter().find(selected)?;
    let hops: Vec<&Value> = route["nexthops"].as_array().unwrap().iter().collect();
    let hops: Vec<&&Value> = hops.iter().filter(|hop| is_set(hop, "fib")).collect();
    let is_connected = route["protocol"] == "connected" || route["protocol"] == "kernel";
    let branch = |hop: &&Value| {
        let stack = pushed(&hop["labels"]);
        let next_hop = match address(&hop["ip"]) {
            Some(next_hop) => next_hop,
            None if stack.is_empty() && is_connected => NextHop::Fec,
            None => NextHop::Interface,
        };
        let index = hop["interfaceIndex"].as_u64().and_then(|index| u32::try_from(index).ok());
        Nhlfe::new(stack, next_hop).with_link(link(index))
    };
    let table = number(&route["table"]);
    let table = if table == TABLE_MAIN { 0 } else { table };
    let key = Key::Ftn(Fec::Ip { prefix: prefix.parse().unwrap(), table });
    // `blackhole`, `reject` and `admin-prohibited` stand beside it.
    if hops.iter().any(|hop| is_set(hop, "unreachable")) {
        return Some((key, (Operation::Discard, Vec::new())));
    }
    let branches: Vec<Nhlfe> = hops.into_iter().map(branch).collect();
    assert!(!branches.is_empty(), "{prefix}: a route without branch");
    Some((key, (Operation::Push, sorted(branches))))
}

fn is_set(value: &Value, name: &str) -> bool {
    value[name].as_bool() == Some(true)
}

fn address(shown: &Value) -> Option<NextHop> {
    shown.as_str().map(|address| NextHop::Address(address.parse().unwrap()))
}

fn link(index: Option<u32>) -> Link {
    let index = index.filter(|index| *index != INTERFACE_LOOPBACK);
    let interface = index.map(|index| Name::new(&format!("ifindex:{index}")).unwrap());
    Link { interface, ..Link::default() }
}

/// All of them weigh alike in these networks.
fn sorted(mut branches: Vec<Nhlfe>) -> Vec<Nhlfe> {
    branches.sort();
    branches
}

/// The labels, without implicit null.
fn pushed(shown: &Value) -> LabelStack {
    let label = |value: &Value| Label::new(number(value)).unwrap();
    let labels = shown.as_array().into_iter().flatten().map(label);
    labels.filter(|label| *label != Label::IMPLICIT_NULL).collect()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn vrfs_and_interfaces_are_shown_in_words_of_their_own() {
    let route = |rest: &str| {
        format!(
            r#"[{{"selected":true,"installed":true,"table":10,"protocol":"bgp","nexthops":[{rest}]}}]"#
        )
    };
    let out = r#"{"fib":true,"directlyConnected":true,"interfaceIndex":9,"interfaceName":"red"}"#;
    let pushes = r#"{"fib":true,"ip":"10.0.0.1","interfaceIndex":2,"interfaceName":"to-r2","labels":[18,144]}"#;
    let drops = r#"{"fib":true,"unreachable":true,"reject":true}"#;
    let routes = format!(
        r#"{{"red":{{"10.1.0.0/16":{},"10.2.0.0/16":{},"10.3.0.0/16":{}}}}}"#,
        route(out),
        route(pushes),
        route(drops)
    );
    let labels = r#"{"144":{"inLabel":144,"nexthops":[
        {"outLabelStack":[3],"installed":true,"interface":"red"}]}}"#;
    let value = |text: &str| [serde_json::from_str::<Value>(text).unwrap()];
    let found = entries(&value(labels), &value(&routes));
    let line = |(key, (operation, branches)): (&Key, &(Operation, Vec<Nhlfe>))| {
        let branches: String = branches.iter().map(|branch| format!(" {branch}")).collect();
        format!("{key} {operation}{branches}")
    };
    let expected = [
        "ftn ip:10.1.0.0/16,10 push -@%ifindex:9",
        "ftn ip:10.2.0.0/16,10 push 18/144@10.0.0.1%ifindex:2",
        "ftn ip:10.3.0.0/16,10 discard",
        "ilm 144 platform pop -@fec%ifindex:9",
    ];
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), expected);
}
