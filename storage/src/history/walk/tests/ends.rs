//! Ends of walks that nobody can vouch for, and ends that look wrong and are not.
//!
//! In:   networks whose routers do not say what a label is for, or in which table it is.
//! Out:  the paths and verdicts of their walks.
//! Law:  a known answer is never wrong.
//! Not:  what every verdict means (`tests`).

use super::*;

/// A head, and a tail with this entry of the label 20.
fn tail(head: &str, entries: &[&str]) -> Lab {
    Lab::default().router("10.0.0.1", &[], &[head]).router("10.0.0.2", &[], entries)
}

#[test]
fn an_end_that_names_nothing_is_not_delivered() {
    let unknown = "10.0.0.1[20] 10.0.0.2[] unknown (fec-incomparable) at 10.0.0.2";
    for fec in ["ip:10.9.0.0/16", "vrf:10.0.0.2,65000:2", "ip:10.1.0.0/16,1001"] {
        let head = format!("push {fec} -1 untagged 20@10.0.0.2");
        for next_hop in ["fec", "recursive"] {
            let entry = format!("pop unknown 20 platform -@{next_hop}");
            // Not even where the router has a route: the label may be that of a VRF.
            let route = "push ip:10.9.0.0/16 -1 untagged -@fec";
            check(&tail(&head, &[&entry, route]), "10.0.0.1", fec, &[unknown]);
        }
    }
    // Explicit null stands for the global table, whatever is told of it.
    let head = "push ip:10.9.0.0/16 -1 untagged 0@10.0.0.2";
    let entries = ["pop unknown 0 platform -@fec", "push ip:10.9.0.0/16 -1 untagged -@fec"];
    let delivered = "10.0.0.1[0] 10.0.0.2[] delivered at 10.0.0.2";
    check(&tail(head, &entries), "10.0.0.1", "ip:10.9.0.0/16", &[delivered]);
    // Of a walk by a label that names nothing nothing is expected.
    let entry = "pop unknown 20 platform -@fec";
    let delivered = "10.0.0.2[] delivered at 10.0.0.2";
    check(&tail(head, &[entry]), "10.0.0.2", "label:20", &[delivered]);
}

#[test]
fn the_label_of_a_vrf_is_looked_up_in_its_table() {
    let head = "push vrf:10.0.0.2,65000:2 -1 untagged 20@10.0.0.2";
    let entry = "pop vrf:10.0.0.2,65000:2 20 platform -@recursive";
    let delivered = "10.0.0.1[20] 10.0.0.2[] delivered at 10.0.0.2";
    check(&tail(head, &[entry]), "10.0.0.1", "vrf:10.0.0.2,65000:2,10.1.0.0/16", &[delivered]);
}

#[test]
fn a_vrf_by_its_name_is_served_by_that_name_and_nothing_is_known_of_others() {
    let head = "push vrf-name:red -1 untagged 20@10.0.0.2";
    let delivered = "delivered at 10.0.0.2";
    let other = "misdelivered at 10.0.0.2: entered for vrf-name:red,10.1.0.0/16, leaves for \
                 vrf-name:red,10.2.0.0/16";
    // The other router may call it so.
    let unknown = "unknown (fec-incomparable) at 10.0.0.2";
    for (left, end) in [
        ("vrf-name:red,10.1.0.0/16", delivered),
        ("vrf-name:red,10.2.0.0/16", other),
        ("vrf-name:blue,10.1.0.0/16", unknown),
        ("vrf:10.0.0.2,65000:2", unknown),
    ] {
        let lab = tail(head, &[&format!("pop {left} 20 platform -@fec")]);
        let path = format!("10.0.0.1[20] 10.0.0.2[] {end}");
        check(&lab, "10.0.0.1", "vrf-name:red,10.1.0.0/16", &[&path]);
    }
}

#[test]
fn the_number_of_a_table_is_each_router_s_own() {
    let head = "push ip:10.1.0.0/16,1001 -1 untagged 20@10.0.0.2";
    let lab = tail(head, &["pop ip:0.0.0.0/0,1001 20 platform -@fec"]);
    let unknown = "10.0.0.1[20] 10.0.0.2[] unknown (fec-incomparable) at 10.0.0.2";
    check(&lab, "10.0.0.1", "ip:10.1.0.0/16,1001", &[unknown]);
    let lab = tail("push ip:10.1.0.0/16,1001 -1 untagged -@fec", &[]);
    let delivered = "10.0.0.1[] delivered at 10.0.0.1";
    check(&lab, "10.0.0.1", "ip:10.1.0.0/16,1001", &[delivered]);
}

#[test]
fn behind_the_label_of_a_router_s_own_its_ip_table_decides() {
    let head = "push ip:10.9.0.0/16 -1 untagged 20@10.0.0.2";
    let own = "pop ip:10.0.0.2/32 20 platform -@fec";
    let lab = tail(head, &[own, "push ip:10.9.0.0/16 -1 untagged -@fec"]);
    let delivered = "10.0.0.1[20] 10.0.0.2[] delivered at 10.0.0.2";
    check(&lab, "10.0.0.1", "ip:10.9.0.0/16", &[delivered]);
    // Looked up once more in the same router it is one hop.
    let lab = tail(head, &[own, "push ip:10.9.0.0/16 -1 untagged 30@10.0.0.3"]);
    let lab = lab.router("10.0.0.3", &[], &["pop ip:10.9.0.0/16 30 platform -@fec"]);
    let delivered = "10.0.0.1[20] 10.0.0.2[30] 10.0.0.3[] delivered at 10.0.0.3";
    check(&lab, "10.0.0.1", "ip:10.9.0.0/16", &[delivered]);
    // Without a route the packet came out for another end.
    let broken = "10.0.0.1[20] 10.0.0.2[] misdelivered at 10.0.0.2: entered for \
                  ip:10.9.0.0/16, leaves for ip:10.0.0.2/32";
    check(&tail(head, &[own]), "10.0.0.1", "ip:10.9.0.0/16", &[broken]);
}

#[test]
fn a_route_by_source_makes_the_answer_depend_on_the_source() {
    let connected = "push ip:10.9.0.0/16 -1 untagged -@fec";
    let selective = "push ip:10.9.0.0/16,from=198.51.100.0/24 -1 untagged 20@10.0.0.2";
    let lab = Lab::default().router("10.0.0.1", &[], &[connected, selective]).router(
        "10.0.0.2",
        &[],
        &["pop ip:10.9.0.0/16 20 platform -@fec"],
    );
    let unknown = "10.0.0.1[] unknown (source-dependent) at 10.0.0.1";
    check(&lab, "10.0.0.1", "ip:10.9.0.1/32", &[unknown]);
    let fec = "ip:10.9.0.1/32,from=198.51.100.7/32";
    let delivered = "10.0.0.1[20] 10.0.0.2[] delivered at 10.0.0.2";
    check(&lab, "10.0.0.1", fec, &[delivered]);
    let other = "10.0.0.1[] delivered at 10.0.0.1";
    check(&lab, "10.0.0.1", "ip:10.9.0.1/32,from=203.0.113.7/32", &[other]);
    // One that could not be read may be there as well.
    let lab = Lab::default().router("10.0.0.1", &[], &[connected]);
    let key = Key::Ftn("ip:10.9.0.0/16,from=198.51.100.0/24".parse().unwrap());
    let unknown = "10.0.0.1[] unknown since 2026-11-18T11:06:39.999500Z (entry: connection-lost) \
                   at 10.0.0.1";
    check(&lab.gap("10.0.0.1", Some(key)), "10.0.0.1", "ip:10.9.0.1/32", &[unknown]);
}

#[test]
fn in_a_router_of_several_label_tables_the_interface_has_to_say_which() {
    let swap = "swap ip:10.0.0.9/32 20 platform 3@10.0.0.9";
    let lab = |table: Option<&str>| {
        let lab = tail("push ip:10.0.0.9/32 -1 untagged 20@10.0.0.2", &[swap]);
        let mut lab = lab.router("10.0.0.9", &[], &[]);
        if let Some(text) = table {
            let mut other = mapping(text);
            other.ingress.origin = Origin::Table(7);
            lab.say("10.0.0.2", &other);
        }
        lab
    };
    let delivered = "10.0.0.1[20] 10.0.0.2[] 10.0.0.9[] delivered at 10.0.0.9";
    check(&lab(None), "10.0.0.1", "ip:10.0.0.9/32", &[delivered]);
    // Whatever is in the other table: the label may be looked up there, and lack.
    let unknown = "10.0.0.1[20] 10.0.0.2[] unknown (table-unknown) at 10.0.0.2";
    let other = Some("pop unknown 999 platform -@fec");
    check(&lab(other), "10.0.0.1", "ip:10.0.0.9/32", &[unknown]);
    let key = Key::Ilm(Label::new(999).unwrap(), Origin::Table(7));
    let doubted = lab(None).gap("10.0.0.2", Some(key));
    check(&doubted, "10.0.0.1", "ip:10.0.0.9/32", &[unknown]);
}

#[test]
fn an_entry_of_an_interface_that_could_not_be_read_may_be_the_one() {
    let lab = || Lab::default().router("10.0.0.2", &[], &["push ip:10.0.0.9/32 -1 untagged -@fec"]);
    let missing = "10.0.0.2[] broken at 10.0.0.2: no-entry";
    check(&lab(), "10.0.0.2", "label:20", &[missing]);
    let key = Key::Ilm(Label::new(20).unwrap(), Origin::Interface(id("10.0.0.1")));
    let unknown = "10.0.0.2[] unknown since 2026-11-18T11:06:39.999500Z (entry: connection-lost) \
                   at 10.0.0.2";
    check(&lab().gap("10.0.0.2", Some(key)), "10.0.0.2", "label:20", &[unknown]);
}
