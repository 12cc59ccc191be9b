//! FPM frames built by hand: each rule of the table in `fpm`, and that no byte can break it.

use proptest::prelude::*;
use storage::mapping::{Mapping, TimeSource};
use storage::row::Cause;

use self::writer::{DELETED, Header, LITTLE, NEW, Writer, stack};
use super::*;
use crate::wire::{RejectedMapping, SnapshotMark, UnitKind};

mod labels;
mod numbers;
mod prefixes;
mod refusals;
mod writer;

const NOW: Micros = Micros(1_795_322_513_836_587);

/// Each mapping as `key operation branch branch`, each rejected one as `key cause`.
fn tell_frame(decoder: &mut FpmDecoder, messages: &[Vec<u8>]) -> Vec<String> {
    let mut unit = Unit::new();
    decoder.message(&messages.concat(), NOW, &mut unit).unwrap();
    assert_eq!((&unit.kind, unit.snapshot), (&UnitKind::Mappings, SnapshotMark::None));
    let mapping = |mapping: &Mapping| {
        assert_eq!((mapping.event_time, mapping.time_source), (NOW, TimeSource::Collector));
        let branches: String = mapping.branches.iter().map(|nhlfe| format!(" {nhlfe}")).collect();
        format!("{} {}{branches}", mapping.key(), mapping.operation)
    };
    let rejected = |rejected: &RejectedMapping| {
        assert!(rejected.detail.len() <= 200, "{}", rejected.detail);
        let key = rejected.key.map_or(String::new(), |key| format!("{key} "));
        format!("{key}{}", rejected.cause.name())
    };
    let mappings = unit.mappings.iter().map(mapping);
    mappings.chain(unit.rejected.iter().map(rejected)).collect()
}

fn check(messages: &[Vec<u8>], expected: &[&str]) {
    assert_eq!(tell_frame(&mut FpmDecoder::default(), messages), expected);
}

#[test]
fn a_header_says_how_long_its_frame_is() {
    assert_eq!(frame_bytes([1, 1, 1, 4]).ok(), Some(260));
    assert_eq!(frame_bytes([1, 1, 0, 4]).ok(), Some(4));
    for bad in [[2, 1, 1, 4], [1, 2, 1, 4], [1, 1, 0, 3]] {
        assert_eq!(frame_bytes(bad).unwrap_err().cause, Cause::FpmMalformed);
    }
}

/// Frames that a router sent, as (payload) in order.
fn recorded() -> Vec<&'static [u8]> {
    let mut rest: &[u8] = include_bytes!("../../../tests/fixtures/frr/ldp6_nhg/up/r2.fpm");
    let mut frames = Vec::new();
    while let Some(header) = rest.first_chunk() {
        let (frame, after) = rest.split_at(frame_bytes(*header).unwrap());
        frames.push(&frame[HEADER_BYTES..]);
        rest = after;
    }
    assert!(frames.len() > 20);
    frames
}

proptest! {
    #[test]
    fn no_byte_can_break_the_reader(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        frame in any::<prop::sample::Index>(),
    ) {
        let frames = recorded();
        let mut decoder = FpmDecoder::default();
        let mut unit = Unit::new();
        for good in &frames {
            decoder.message(good, NOW, &mut unit).unwrap();
        }
        let mut bytes = frames[frame.index(frames.len())].to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let cut = &bytes[..cut.index(bytes.len() + 1)];
        for bytes in [&bytes[..], cut] {
            if let Err(rejection) = decoder.message(bytes, NOW, &mut unit) {
                prop_assert_eq!(rejection.cause, Cause::FpmMalformed);
                prop_assert!(unit.mappings.is_empty());
            }
            for mapping in &unit.mappings {
                prop_assert!(mapping.branches.is_sorted());
            }
        }
    }

    #[test]
    fn no_text_can_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut unit = Unit::new();
        let outcome = FpmDecoder::default().message(&bytes, NOW, &mut unit);
        prop_assert!(outcome.is_ok() || unit.mappings.is_empty());
    }
}
