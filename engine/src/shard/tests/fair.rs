//! Fairness, in virtual time: what a digest costs is a model, so that latency can be measured.

use super::*;

/// What a mapping costs to digest: ten times as much as in the product, so that few are needed to
/// keep the shard busy.
const MAPPING_US: u64 = 4;
/// What a slice costs whatever is in it.
const SLICE_US: u64 = 20;
/// What a turn of the driver takes beside digesting, and the longest that it digests.
const TURN_US: (u64, u64) = (200, 1_000);
const BUFFER: usize = 64 << 10;
const GOOD: u16 = 500;
/// A good router says ten mappings so often.
const EVERY_US: u64 = 200_000;
const LASTS_US: u64 = 1_000_000;

fn router(number: u16) -> RouterId {
    let [high, low] = number.to_be_bytes();
    RouterId([10, 0, high, low].into())
}

fn connect(bench: &mut Bench, number: u16) -> ConnectionId {
    let id = bench.connect(u64::from(number) + 1, "127.0.0.1:1");
    let hello = hello_of(first_hello(router(number)));
    bench.send(id, &hello);
    id
}

fn changes(number: u16, sequence: u64, count: u32) -> Vec<u8> {
    let out = 16 + sequence as u32;
    let mappings: Vec<Mapping> = (16..16 + count).map(|label| mapping(label, out)).collect();
    let (mut text, mut bytes) = (String::new(), Vec::new());
    write_document(Some(router(number)), SnapshotMark::None, &mappings, &mut text);
    let (kind, none, text) = (FrameType::Mappings, FrameFlags::NONE, text.as_bytes());
    FrameEncoder::new(1).frame(kind, Codec::Zlib, none, sequence, text, &mut bytes);
    bytes
}

/// One slice, and the time that it takes.
fn digest(bench: &mut Bench) -> bool {
    let before = bench.shard.counters().get(Metric::MappingsFramed);
    let more = bench.shard.digest(bench.now);
    let mappings = bench.shard.counters().get(Metric::MappingsFramed) - before;
    bench.pass(SLICE_US + mappings * MAPPING_US);
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
    more
}

fn receive(bench: &mut Bench, id: ConnectionId, bytes: &[u8]) {
    bench.handle(Completion::Received { connection: id, bytes });
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
}

/// The 99th percentile of the time from a good router's frame to its ack, and the mappings that
/// all have said; with a flooder and a trickler beside the good ones, or without.
fn p99_us(with_bad_ones: bool) -> (u64, u64) {
    let budget = Budget::of_surge(1 << 20);
    let mut bench = Bench::within(budget, |settings| settings.sessions_per_minute_max = 10_000);
    let good: Vec<ConnectionId> = (0..GOOD).map(|number| connect(&mut bench, number)).collect();
    let (flooder, trickler) = (connect(&mut bench, GOOD), connect(&mut bench, GOOD + 1));
    let mut flood: Vec<u8> = Vec::new();
    let mut sequence = 0;
    let trickle = changes(GOOD + 1, 1, 100);
    let mut trickled = 0;
    let begun_us = bench.now.monotonic_us;
    // Evenly spread over the interval.
    let mut said: Vec<(u64, u64)> = (0..u64::from(GOOD))
        .map(|number| (begun_us + number * EVERY_US / u64::from(GOOD), 0))
        .collect();
    let mut waiting: Vec<(usize, u64, u64)> = Vec::new();
    let mut latencies = Vec::new();
    while bench.now.monotonic_us < begun_us + LASTS_US {
        let now_us = bench.now.monotonic_us;
        for (index, (due_us, last)) in said.iter_mut().enumerate() {
            if *due_us > now_us || !bench.receiving[&good[index]] {
                continue;
            }
            *last += 1;
            waiting.push((index, *last, *due_us));
            *due_us += EVERY_US;
            receive(&mut bench, good[index], &changes(index as u16, *last, 10));
        }
        if with_bad_ones && bench.receiving[&flooder] {
            while flood.len() < BUFFER {
                sequence += 1;
                flood.extend(changes(GOOD, sequence, 100));
            }
            let rest = flood.split_off(BUFFER);
            let bytes = std::mem::replace(&mut flood, rest);
            receive(&mut bench, flooder, &bytes);
        }
        if with_bad_ones && trickled < trickle.len() && bench.receiving[&trickler] {
            receive(&mut bench, trickler, &trickle[trickled..=trickled]);
            trickled += 1;
        }
        bench.pass(TURN_US.0);
        let until_us = bench.now.monotonic_us + TURN_US.1;
        while digest(&mut bench) && bench.now.monotonic_us < until_us {}
        let acked_us = bench.now.monotonic_us;
        waiting.retain(|(index, sequence, sent_us)| {
            let is_acked = bench.acked.get(&good[*index]).is_some_and(|acked| acked >= sequence);
            if is_acked {
                latencies.push(acked_us - sent_us);
            }
            !is_acked
        });
    }
    assert!(latencies.len() > usize::from(GOOD), "{} acks", latencies.len());
    assert!(bench.closed.is_empty());
    latencies.sort_unstable();
    let mappings = bench.shard.counters().get(Metric::MappingsFramed);
    (latencies[latencies.len() * 99 / 100], mappings)
}

/// A router that sends faster than anything can be digested, and one whose frame comes byte by
/// byte, beside five hundred that say little: what these wait for their acks does not double.
#[test]
fn one_bad_router_hurts_only_itself_in_virtual_time() {
    let (quiet_us, quiet_mappings) = p99_us(false);
    let (beside_us, mappings) = p99_us(true);
    assert!(mappings > 5 * quiet_mappings, "{mappings} and {quiet_mappings}: that is no flood");
    assert!(beside_us < 2 * quiet_us, "p99 {quiet_us} us alone, {beside_us} us beside them");
}
