//! What routers have labels for: one module per kind of service, each a pure function.
//!
//! In:   the labelled network, a state, a router.
//! Out:  entries of the router's table, without times.
//! Law:  nothing but these decides: the same network, state and router have the same entries.
//! Not:  which label is given (`network`), when entries change (`scenario`).

pub mod l3vpn;
pub mod transport;

use smallvec::smallvec;
use storage::mapping::{
    Branches, Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, TimeSource,
};
use storage::time::Micros;

/// An entry; its time is filled in by whoever knows it.
fn entry(fec: Fec, ingress: Ingress, operation: Operation, branches: Branches) -> Mapping {
    let (event_time, time_source) = (Micros(0), TimeSource::Router);
    Mapping { fec, ingress, operation, branches, event_time, time_source, extra: None }
}

/// Out of the MPLS network.
fn leaving() -> Branches {
    smallvec![Nhlfe { stack: smallvec![], next_hop: NextHop::Fec, weight: None }]
}

/// An inner label, on which the router pushes another.
fn pushed_again(inner: Label) -> Branches {
    smallvec![Nhlfe { stack: smallvec![inner], next_hop: NextHop::Recursive, weight: None }]
}
