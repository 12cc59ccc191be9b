//! Turns the bytes of one session into units, whatever its input mode.
//!
//! In:   the bytes of the session that are not consumed yet, as far as they have come.
//! Out:  one `Step` at a time; units in the `Unit` that is passed.
//! Law:  units, rejections and the bytes they take do not depend on how the bytes were split; only
//!       of a compressed stream that breaks, how much of it was inflated by then does.
//! Not:  what a unit changes, whether its sequence is due, who may speak for whom (`shard`).

use storage::mapping::RouterId;
use storage::row::{Cause, InputMode};
use storage::time::Micros;

use super::boundary::{Boundary, Found, quoted};
use super::fpm::{self, FpmDecoder};
use super::frame::{Codec, FrameFlags, FrameType, HEADER_BYTES, Header, HeaderFault};
use super::hello::{HELLO_BYTES_MAX, read_hello};
use super::sniff::{Sniffed, guess, sniff};
use super::stream::{Flow, Stream};
use super::xml::read_document;
use super::{Rejection, SnapshotMark, Step, Tools, Unit, UnitKind};

/// The decoder of one session: some words until its mode asks for more.
pub struct Decoder {
    state: State,
    /// Bytes behind documents that carry nothing and are not XML, since they were asked for.
    padding_bytes: u64,
    /// Whom the session speaks for, once hello or a document has said so.
    router: Option<RouterId>,
}

enum State {
    /// Nothing was decided yet.
    Fresh,
    /// `greeted`: hello has been read.
    Framed {
        greeted: bool,
    },
    Plain(Boundary),
    Stream(InputMode, Box<Stream>),
    /// `is_open`: mappings of the frame at the front of the bytes are still to come.
    Fpm {
        decoder: Box<FpmDecoder>,
        is_open: bool,
    },
    /// The boundary was lost; the same answer for ever.
    Broken(Option<InputMode>, Rejection),
}

impl Decoder {
    /// The decoder of a session that has sent nothing yet.
    pub fn new() -> Decoder {
        Decoder { state: State::Fresh, padding_bytes: 0, router: None }
    }

    /// How the session's bytes are read; `None` before its first bytes said so.
    pub fn mode(&self) -> Option<InputMode> {
        match &self.state {
            State::Fresh => None,
            State::Framed { .. } => Some(InputMode::Framed),
            State::Plain(_) => Some(InputMode::Plain),
            State::Stream(mode, _) => Some(*mode),
            State::Fpm { .. } => Some(InputMode::Fpm),
            State::Broken(mode, _) => *mode,
        }
    }

    /// Memory that this decoder takes for a while: what it has inflated, and inflates with.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Stream(_, stream) => stream.memory_bytes(),
            _ => 0,
        }
    }

    /// Bytes that this decoder keeps as long as the session lasts: the next-hop groups of FPM.
    pub fn table_bytes(&self) -> usize {
        match &self.state {
            State::Fpm { decoder, .. } => decoder.memory_bytes(),
            _ => 0,
        }
    }

    /// Bytes of padding that were passed over since this was asked last: what senders leave behind
    /// a document, and of compressed streams what inflates to it.
    pub fn take_padding(&mut self) -> u64 {
        let in_stream = match &mut self.state {
            State::Stream(_, stream) => std::mem::take(&mut stream.padding_bytes),
            _ => 0,
        };
        std::mem::take(&mut self.padding_bytes) + in_stream
    }

    /// Reads the next unit. `bytes` begins behind what was consumed so far, and between two calls
    /// it only loses what was consumed and only grows at its end; it need not be empty for the
    /// decoder to have read all of it. `now` is the collection time of its last byte.
    ///
    /// `unit` is cleared and then filled for `Step::Unit`; after any other step it holds nothing.
    pub fn next(&mut self, bytes: &[u8], now: Micros, tools: &mut Tools, unit: &mut Unit) -> Step {
        unit.clear();
        if let Some(step) = self.begin(bytes) {
            return step;
        }
        let step = match &mut self.state {
            State::Fresh => Step::Incomplete { needed: bytes.len() + 1 },
            State::Framed { .. } => self.next_frame(bytes, tools, unit),
            State::Plain(boundary) => match next_plain(boundary, bytes, tools) {
                Err(rejection) => Step::Broken { rejection },
                Ok(Found::More) => Step::Incomplete { needed: bytes.len() + 1 },
                Ok(Found::Skip(consumed)) => Step::Nothing { consumed },
                Ok(Found::Padding(consumed)) => {
                    self.padding_bytes += consumed as u64;
                    Step::Nothing { consumed }
                }
                Ok(Found::Document(consumed)) => {
                    let text = bytes.get(..consumed).unwrap_or_default();
                    document(text, self.router, consumed, tools, unit)
                }
            },
            State::Stream(_, stream) => match stream.next(bytes, &tools.limits) {
                Err(rejection) => Step::Broken { rejection },
                Ok(Flow::Nothing(0)) => Step::Incomplete { needed: bytes.len() + 1 },
                Ok(Flow::Nothing(consumed)) => Step::Nothing { consumed },
                Ok(Flow::Document(consumed)) => {
                    document(stream.document(), self.router, consumed, tools, unit)
                }
            },
            State::Fpm { decoder, is_open } => next_fpm(decoder, is_open, bytes, now, unit),
            State::Broken(_, rejection) => Step::Broken { rejection: rejection.clone() },
        };
        self.note(&step, unit);
        step
    }

    /// What the rest of the bytes means when no more will come. To be called once `next` has asked
    /// for more: `Nothing` is a clean end (of a unit, or before the first one), `Rejected` takes
    /// all of the bytes, as `truncated`.
    pub fn end(&mut self, bytes: &[u8], now: Micros, tools: &mut Tools, unit: &mut Unit) -> Step {
        match self.next(bytes, now, tools, unit) {
            Step::Incomplete { .. } => {}
            step => return step,
        }
        // White space before anything else, which could have become something else.
        if matches!(self.state, State::Fresh) && bytes.iter().all(u8::is_ascii_whitespace) {
            return Step::Nothing { consumed: bytes.len() };
        }
        let is_clean = bytes.is_empty()
            && match &self.state {
                State::Stream(_, stream) => stream.is_at_boundary(),
                _ => true,
            };
        if is_clean {
            return Step::Nothing { consumed: 0 };
        }
        let detail = match &self.state {
            State::Stream(_, stream) => {
                let held = stream.held_bytes();
                format!("the connection ended {held} inflated bytes into a document")
            }
            State::Plain(_) => format!(
                "the connection ended {} bytes into a document, which begins {}",
                bytes.len(),
                quoted(bytes)
            ),
            _ => format!("the connection ended {} bytes into a unit", bytes.len()),
        };
        let consumed = bytes.len();
        // Said once: what was held is given up with it.
        let rejection = Rejection::new(Cause::Truncated, detail);
        self.state = match std::mem::replace(&mut self.state, State::Fresh) {
            State::Stream(mode, _) => State::Stream(mode, Box::new(Stream::new(mode))),
            State::Plain(_) => State::Plain(Boundary::default()),
            state => state,
        };
        Step::Rejected { consumed, rejection, sequence: None }
    }

    /// Decides the mode. `Some` = not yet, or never.
    fn begin(&mut self, bytes: &[u8]) -> Option<Step> {
        if !matches!(self.state, State::Fresh) {
            return None;
        }
        self.state = match sniff(bytes) {
            Sniffed::More(needed) => return Some(Step::Incomplete { needed }),
            Sniffed::Mode(InputMode::Framed) => State::Framed { greeted: false },
            Sniffed::Mode(InputMode::Plain) => State::Plain(Boundary::default()),
            Sniffed::Mode(mode @ (InputMode::Gzip | InputMode::Zlib)) => {
                State::Stream(mode, Box::new(Stream::new(mode)))
            }
            Sniffed::Mode(InputMode::Fpm) => State::Fpm { decoder: Box::default(), is_open: false },
            Sniffed::Unknown => {
                let first = bytes.get(..bytes.len().min(8)).unwrap_or_default();
                let expected = "expected frames, XML, gzip, zlib or FPM";
                let detail = match guess(bytes) {
                    Some(guess) => format!("{expected}, found {first:02x?}, probably {guess}"),
                    None => format!("{expected}, found {first:02x?}"),
                };
                State::Broken(None, Rejection::new(Cause::ModeUnknown, detail))
            }
        };
        None
    }

    /// Remembers what a step says about the session itself.
    fn note(&mut self, step: &Step, unit: &Unit) {
        match step {
            Step::Unit { .. } => {
                if let UnitKind::Hello(hello) = &unit.kind {
                    self.router = Some(hello.router);
                }
                self.router = self.router.or(unit.router);
            }
            Step::Broken { rejection } => {
                self.state = State::Broken(self.mode(), rejection.clone());
            }
            Step::Incomplete { .. } | Step::Nothing { .. } | Step::Rejected { .. } => {}
        }
    }

    fn next_frame(&mut self, bytes: &[u8], tools: &mut Tools, unit: &mut Unit) -> Step {
        let State::Framed { greeted } = &mut self.state else {
            return Step::Incomplete { needed: bytes.len() + 1 };
        };
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return early_magic(bytes);
        };
        let header = match Header::read(header) {
            Ok(header) => header,
            Err(fault) => return Step::Broken { rejection: header_rejection(fault) },
        };
        let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let longest = tools.limits.frame_bytes_max;
        if payload_bytes > longest {
            let detail = format_args!(
                "payload of {payload_bytes} bytes, at most {longest}: send it in parts, with codec \
                 1, or raise frame_bytes_max"
            );
            return Step::Broken { rejection: Rejection::new(Cause::FrameTooLong, detail) };
        }
        let frame_type = FrameType::from_code(header.type_code);
        if !*greeted && frame_type != Some(FrameType::Hello) {
            let detail = format_args!("a frame of type {} before hello", header.type_code);
            return Step::Broken { rejection: Rejection::new(Cause::HelloInvalid, detail) };
        }
        let consumed = HEADER_BYTES + payload_bytes;
        if !*greeted && payload_bytes > HELLO_BYTES_MAX {
            // Nobody holds memory for a hello that will be refused.
            let detail = format_args!("hello of {payload_bytes} bytes, at most {HELLO_BYTES_MAX}");
            return Step::Broken { rejection: Rejection::new(Cause::HelloInvalid, detail) };
        }
        let Some(payload) = bytes.get(HEADER_BYTES..consumed) else {
            return Step::Incomplete { needed: consumed };
        };
        let is_first = !std::mem::replace(greeted, true);
        match read_frame(&header, frame_type, payload, is_first, self.router, tools, unit) {
            Ok(()) => Step::Unit { consumed },
            Err(rejection) => {
                unit.clear();
                if is_first {
                    return Step::Broken { rejection };
                }
                // Sequence 0 is none: whoever counts must not take it for one that was seen.
                let is_counted = frame_type.is_some_and(FrameType::is_counted);
                let sequence = Some(header.sequence).filter(|sequence| is_counted && *sequence > 0);
                Step::Rejected { consumed, rejection, sequence }
            }
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

/// A frame that does not even begin with the magic is said to be none before 32 bytes are there.
fn early_magic(bytes: &[u8]) -> Step {
    let length = bytes.len().min(super::frame::MAGIC.len());
    let found = bytes.get(..length).unwrap_or_default();
    if !super::frame::MAGIC.starts_with(found) {
        let detail = format_args!("frame: expected the magic 53 44 4c 31, found {found:02x?}");
        return Step::Broken { rejection: Rejection::new(Cause::FrameMagic, detail) };
    }
    Step::Incomplete { needed: HEADER_BYTES }
}

fn header_rejection(fault: HeaderFault) -> Rejection {
    let cause = match fault {
        HeaderFault::Magic { .. } => Cause::FrameMagic,
        HeaderFault::Checksum { .. } => Cause::FrameChecksum,
    };
    Rejection::new(cause, fault)
}

fn read_frame(
    header: &Header,
    frame_type: Option<FrameType>,
    payload: &[u8],
    is_first: bool,
    router: Option<RouterId>,
    tools: &mut Tools,
    unit: &mut Unit,
) -> Result<(), Rejection> {
    let expected = crc_fast::crc32_iscsi(payload);
    if header.payload_crc != expected {
        let found = header.payload_crc;
        let detail = format_args!("payload: CRC32C expected {expected:08x}, found {found:08x}");
        return Err(Rejection::new(Cause::FrameChecksum, detail));
    }
    let Some(frame_type) = frame_type.filter(|frame_type| *frame_type != FrameType::Ack) else {
        let detail = format_args!("expected type 1 to 5, found {}", header.type_code);
        return Err(Rejection::new(Cause::FrameType, detail));
    };
    let limits = tools.limits;
    let text = match frame_type {
        FrameType::Hello | FrameType::Mappings => open(header, payload, tools)?,
        _ if payload.is_empty() => &[],
        _ => {
            let detail = format_args!("{frame_type:?} has no payload, found {}", payload.len());
            return Err(Rejection::new(Cause::FrameLength, detail));
        }
    };
    unit.sequence = frame_type.is_counted().then_some(header.sequence);
    if unit.sequence == Some(0) {
        let detail = "sequence 0: the frames of a boot are counted from 1";
        return Err(Rejection::new(Cause::SequenceBroken, detail));
    }
    match frame_type {
        FrameType::Hello if !is_first => {
            return Err(Rejection::new(Cause::HelloInvalid, "a second hello"));
        }
        FrameType::Hello if text.len() > HELLO_BYTES_MAX => {
            let detail = format_args!("hello of {} bytes, at most {HELLO_BYTES_MAX}", text.len());
            return Err(Rejection::new(Cause::HelloInvalid, detail));
        }
        FrameType::Hello => unit.kind = UnitKind::Hello(read_hello(text, &limits)?),
        FrameType::Mappings => {
            let sequence = unit.sequence;
            read_document(text, router, &limits, unit)?;
            unit.sequence = sequence;
            let is_part = header.flags.contains(FrameFlags::SNAPSHOT_PART);
            if is_part && unit.snapshot == SnapshotMark::None {
                unit.snapshot = SnapshotMark::Part;
            }
        }
        FrameType::SnapshotComplete => unit.kind = UnitKind::SnapshotComplete,
        FrameType::Keepalive => unit.kind = UnitKind::Keepalive,
        FrameType::Bye | FrameType::Ack => unit.kind = UnitKind::Bye,
    }
    Ok(())
}

/// The payload as text, inflated if need be.
fn open<'t>(
    header: &Header,
    payload: &'t [u8],
    tools: &'t mut Tools,
) -> Result<&'t [u8], Rejection> {
    let declared_bytes = usize::try_from(header.inflated_bytes).unwrap_or(usize::MAX);
    match Codec::from_code(header.codec_code) {
        Some(Codec::None) if declared_bytes == payload.len() => Ok(payload),
        Some(Codec::None) => {
            let detail = format_args!(
                "not compressed, {} bytes, but {declared_bytes} inflated are declared",
                payload.len()
            );
            Err(Rejection::new(Cause::FrameLength, detail))
        }
        Some(Codec::Zlib) => {
            let Tools { inflater, scratch, limits, inflated_bytes } = tools;
            *inflated_bytes += u64::from(header.inflated_bytes);
            inflater.inflate(payload, declared_bytes, limits, scratch)
        }
        None => {
            let detail = format_args!("expected codec 0 or 1, found {}", header.codec_code);
            Err(Rejection::new(Cause::FrameCodec, detail))
        }
    }
}

fn next_plain(boundary: &mut Boundary, bytes: &[u8], tools: &Tools) -> Result<Found, Rejection> {
    let found = boundary.find(bytes)?;
    let length = match found {
        Found::More => bytes.len(),
        Found::Document(length) => length,
        Found::Skip(_) | Found::Padding(_) => 0,
    };
    let longest = tools.limits.frame_bytes_max;
    if length > longest {
        let detail = format_args!(
            "a document of more than {longest} bytes: send it through gzip, or framed in parts, or \
             raise frame_bytes_max"
        );
        return Err(Rejection::new(Cause::FrameTooLong, detail));
    }
    Ok(found)
}

fn next_fpm(
    decoder: &mut FpmDecoder,
    is_open: &mut bool,
    bytes: &[u8],
    now: Micros,
    unit: &mut Unit,
) -> Step {
    let Some(header) = bytes.first_chunk::<{ fpm::HEADER_BYTES }>() else {
        return Step::Incomplete { needed: fpm::HEADER_BYTES };
    };
    let length = match fpm::frame_bytes(*header) {
        Ok(length) => length,
        Err(rejection) => return Step::Broken { rejection },
    };
    let Some(payload) = bytes.get(fpm::HEADER_BYTES..length) else {
        return Step::Incomplete { needed: length };
    };
    if *is_open {
        decoder.proceed(now, unit);
    } else if let Err(rejection) = decoder.message(payload, now, unit) {
        unit.clear();
        return Step::Rejected { consumed: length, rejection, sequence: None };
    }
    *is_open = decoder.is_pending();
    // The bytes stay until the last of the frame's mappings is out: nothing waits unseen.
    let consumed = if *is_open { 0 } else { length };
    if unit.mappings.is_empty() && unit.rejected.is_empty() && !*is_open {
        return Step::Nothing { consumed };
    }
    Step::Unit { consumed }
}

fn document(
    text: &[u8],
    router: Option<RouterId>,
    consumed: usize,
    tools: &Tools,
    unit: &mut Unit,
) -> Step {
    match read_document(text, router, &tools.limits, unit) {
        Ok(()) => Step::Unit { consumed },
        Err(rejection) => {
            unit.clear();
            Step::Rejected { consumed, rejection, sequence: None }
        }
    }
}

#[cfg(test)]
mod tests;
