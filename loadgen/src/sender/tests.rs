//! The fleet against a collector of a few lines: it decodes, remembers, acknowledges, and breaks.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use engine::wire::decoder::Decoder;
use engine::wire::frame::encode_ack;
use engine::wire::{Hello, SnapshotMark, Step, Tools, Unit, UnitKind, WireLimits};
use storage::mapping::{Key, Mapping};

use super::*;
use crate::stage::{StageSettings, perform};
use crate::topology::Shape;

/// What one connection said.
#[derive(Debug, Default)]
struct Heard {
    hello: Option<Hello>,
    /// Sequence, snapshot mark, mappings; no mappings = an end of snapshot.
    frames: Vec<(u64, SnapshotMark, Vec<Mapping>)>,
    bye: bool,
}

/// Listens; connection number `breaks` is cut after its second frame, without an ack.
struct Acceptor {
    target: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Acceptor {
    fn start(breaks: Option<usize>) -> Acceptor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let all = Arc::clone(&all);
                let frames_max = if breaks == Some(number) { 2 } else { usize::MAX };
                std::thread::spawn(move || {
                    let heard = listen(stream, frames_max);
                    all.lock().unwrap().push(heard);
                });
            }
        });
        Acceptor { target, heard }
    }
}

fn listen(mut stream: TcpStream, frames_max: usize) -> Heard {
    let mut heard = Heard::default();
    let (mut decoder, mut unit) = (Decoder::new(), Unit::new());
    let mut tools = Tools::new(WireLimits::default());
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        unit.clear();
        match decoder.next(&bytes, Micros(0), &mut tools, &mut unit) {
            Step::Unit { consumed } => {
                bytes.drain(..consumed);
            }
            Step::Nothing { consumed } => {
                bytes.drain(..consumed);
                continue;
            }
            Step::Incomplete { .. } => match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return heard,
                Ok(count) => {
                    bytes.extend_from_slice(&buffer[..count]);
                    continue;
                }
            },
            other => panic!("{other:?}"),
        }
        match (unit.kind.clone(), unit.sequence) {
            (UnitKind::Hello(hello), _) => heard.hello = Some(hello),
            (UnitKind::Bye, _) => heard.bye = true,
            (_, sequence) => {
                let mappings = std::mem::take(&mut unit.mappings);
                heard.frames.push((sequence.unwrap(), unit.snapshot, mappings));
                if heard.frames.len() == frames_max {
                    return heard;
                }
                let mut ack = Vec::new();
                encode_ack(sequence.unwrap(), &mut ack);
                if stream.write_all(&ack).is_err() {
                    return heard;
                }
            }
        }
    }
}

fn settings(target: SocketAddr) -> StageSettings {
    StageSettings {
        target,
        model: Shape { routers: 40, edges: 20, seed: 6 }.into(),
        routers_per_second: 0,
        source_base: "127.20.0.1".parse().ok(),
        threads: 2,
        act_timeout: Duration::from_secs(60),
        second_target: None,
    }
}

fn timeless(mut table: Vec<Mapping>) -> BTreeMap<Key, Mapping> {
    table.iter_mut().for_each(|mapping| mapping.event_time = Micros(0));
    table.into_iter().map(|mapping| (mapping.key(), mapping)).collect()
}

#[test]
fn a_fleet_says_every_table_and_every_change_and_says_bye() {
    let acceptor = Acceptor::start(None);
    let performance = perform(&settings(acceptor.target), &mut |_| {}).unwrap();
    let progress = performance.fleet.progress();
    assert_eq!(Progress::value(&progress.reconnects), 0);
    let acts = [Some(&performance.cold_start), performance.storm.as_ref()].map(Option::unwrap);
    for act in acts {
        assert_eq!(act.latencies.durable.len(), act.mappings);
        assert_eq!(act.latencies.written.len(), act.mappings);
        assert!(act.bytes < act.document_bytes);
    }
    let world = Arc::clone(&performance.world);
    let tables = (0..40).map(|router| world.network.table(&world.first, router, world.start).len());
    assert_eq!(acts[0].mappings, tables.sum::<usize>() as u64);
    let after = performance.instants().last().unwrap().1;
    performance.finish().unwrap();
    let heard = acceptor.heard.lock().unwrap();
    assert_eq!(heard.len(), 40);
    for heard in heard.iter() {
        let hello = heard.hello.as_ref().unwrap();
        let routers = &world.network.topology.routers;
        let router_index = routers.iter().position(|r| r.id == hello.router).unwrap();
        assert_eq!(hello.interfaces, world.network.topology.interfaces(router_index));
        let sequences: Vec<u64> = heard.frames.iter().map(|frame| frame.0).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        let mut table = BTreeMap::new();
        for (_, _, mappings) in &heard.frames {
            table.extend(mappings.iter().map(|mapping| (mapping.key(), mapping.clone())));
        }
        let expected = world.key().table(router_index, after);
        assert_eq!(table.into_values().collect::<Vec<_>>(), expected);
        assert!(heard.bye);
        // Behind each of the two acts: nothing has changed.
        let signs = heard
            .frames
            .iter()
            .filter(|(_, mark, mappings)| *mark == SnapshotMark::None && mappings.is_empty());
        // The end of the snapshot is the third frame without mappings.
        assert_eq!(signs.count(), 3);
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_again_first_and_a_snapshot_follows() {
    let acceptor = Acceptor::start(Some(7));
    let performance = perform(&settings(acceptor.target), &mut |_| {}).unwrap();
    assert_eq!(Progress::value(&performance.fleet.progress().reconnects), 1);
    let world = Arc::clone(&performance.world);
    performance.finish().unwrap();
    let heard = acceptor.heard.lock().unwrap();
    let broken = heard.iter().find(|heard| !heard.bye).unwrap();
    let router = broken.hello.as_ref().unwrap().router;
    let router_index = world.network.topology.routers.iter().position(|r| r.id == router).unwrap();
    let again = heard.iter().find(|h| h.bye && h.hello.as_ref().unwrap().router == router).unwrap();
    let hello = again.hello.as_ref().unwrap();
    // Of the two frames that the first connection took, one had been acknowledged.
    assert_eq!(hello.sequence_first, 2);
    assert!(hello.sequence_fresh > hello.sequence_first && hello.snapshot);
    assert_eq!(hello.boot_time, broken.hello.as_ref().unwrap().boot_time);
    assert_eq!(again.frames[0], broken.frames[1]);
    let sequences: Vec<u64> = again.frames.iter().map(|frame| frame.0).collect();
    assert_eq!(sequences, (2..2 + sequences.len() as u64).collect::<Vec<_>>());
    let fresh = again.frames.iter().skip_while(|frame| frame.0 < hello.sequence_fresh);
    let parts = fresh.take_while(|frame| frame.1 == SnapshotMark::Part);
    let snapshot: Vec<Mapping> = parts.flat_map(|frame| frame.2.clone()).collect();
    assert_eq!(timeless(snapshot), timeless(world.key().table(router_index, world.start)));
}
