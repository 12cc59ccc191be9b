//! The files: cut into documents, read as the collector reads them, and framed.
//!
//! In:   paths, standard input, the router of documents that name none.
//! Out:  `Input`: every document with its router, its frame, and what of it is refused.
//! Law:  a file that cannot be read to its end is an error that names file, document and fix.
//! Not:  which mapping a refusal is about (`refused`); the connection (`session`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use storage::mapping::RouterId;
use storage::row::{Cause, InputMode};

use super::refused::{Refused, refused_mappings};
use crate::wire::boundary::{Boundary, Found};
use crate::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES};
use crate::wire::sniff::{Sniffed, guess, sniff};
use crate::wire::stream::{Flow, Stream};
use crate::wire::xml::read_document;
use crate::wire::{Rejection, SnapshotMark, Unit, WireLimits};

/// Bytes of one file, and of all frames: both are held in memory until the last ack.
const INPUT_BYTES_MAX: u64 = 1 << 30;
/// Below this a payload goes as it is: inflating it would cost more than it saves.
const PLAIN_BYTES_MAX: usize = 1 << 10;

/// One document, ready to be sent.
#[derive(Debug)]
pub(super) struct Document {
    /// The file, as it was named.
    pub(super) file: String,
    /// Its place in the file, from 1.
    pub(super) number: usize,
    /// The router that it is about.
    pub(super) router: RouterId,
    /// What it says of the router's whole table.
    pub(super) snapshot: SnapshotMark,
    /// How many of its mappings can be taken.
    pub(super) mappings: usize,
    /// Those that cannot.
    pub(super) refused: Vec<Refused>,
    /// Its place in the router's session, from 1.
    pub(super) sequence: u64,
    /// Its frame.
    pub(super) frame: Vec<u8>,
}

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// The file cannot be opened or read.
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: io::Error },
    /// More than is held in memory.
    #[error("{file} is more than {INPUT_BYTES_MAX} bytes, or becomes so: send it in several files")]
    TooLarge { file: String },
    /// White space at most.
    #[error("{file} holds no document: expected <label-mappings>, plain or as gzip or zlib")]
    Empty { file: String },
    /// The first bytes are those of something else.
    #[error("{file} is no XML, gzip or zlib: it begins with {first:02x?}{probably}")]
    Mode { file: String, first: Vec<u8>, probably: String },
    /// Not a whole document, or none that can be read.
    #[error("{file}, document {document}: {cause}: {detail}{fix}", cause = cause.name())]
    Document { file: String, document: usize, cause: Cause, detail: Box<str>, fix: &'static str },
    /// Nobody says whose table it is.
    #[error(
        "{file}, document {document} names no router: write router-id=\"…\" on its root element, or \
         give --router ID"
    )]
    Nameless { file: String, document: usize },
    /// File and command line contradict each other.
    #[error(
        "{file}, document {document} is of router {found}, and --router says {asked}: leave --router \
         out, or send another file"
    )]
    Contradiction { file: String, document: usize, found: RouterId, asked: RouterId },
}

impl InputError {
    /// Whether another command line would mend it.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, InputError::Nameless { .. } | InputError::Contradiction { .. })
    }
}

/// All that is to be sent.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// In the order of the command line.
    pub(super) documents: Vec<Document>,
}

impl Input {
    /// Reads every file. Errors: the first that stands in the way.
    pub(super) fn read(
        files: &[PathBuf],
        router: Option<RouterId>,
        stdin: &mut dyn Read,
    ) -> Result<Input, InputError> {
        let mut reading = Reading {
            limits: limits(),
            router,
            encoder: FrameEncoder::new(1),
            sequences: BTreeMap::new(),
            bytes: 0,
            documents: Vec::new(),
        };
        for path in files {
            let (file, bytes) = read_file(path, stdin)?;
            reading.file(&file, &bytes)?;
        }
        Ok(Input { documents: reading.documents })
    }

    /// Every router, in the order in which the documents come to it.
    pub(super) fn routers(&self) -> Vec<RouterId> {
        let first = self.documents.iter().filter(|document| document.sequence == 1);
        first.map(|document| document.router).collect()
    }

    /// The documents of one router, in order.
    pub(super) fn documents_of(&self, router: RouterId) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.router == router)
    }
}

/// What a collector reads by its defaults. A plain document may be as long as an inflated frame:
/// it goes compressed.
fn limits() -> WireLimits {
    let limits = WireLimits::default();
    WireLimits { frame_bytes_max: limits.inflated_bytes_max, ..limits }
}

fn read_file(path: &Path, stdin: &mut dyn Read) -> Result<(String, Vec<u8>), InputError> {
    let is_stdin = path == Path::new("-");
    let file = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = if is_stdin {
        stdin.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|opened| opened.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    match read {
        Ok(count) if count as u64 > INPUT_BYTES_MAX => Err(InputError::TooLarge { file }),
        Ok(_) => Ok((file, bytes)),
        Err(source) => Err(InputError::Read { file, source }),
    }
}

struct Reading {
    limits: WireLimits,
    router: Option<RouterId>,
    encoder: FrameEncoder,
    /// The last sequence of each router.
    sequences: BTreeMap<RouterId, u64>,
    /// Bytes of all frames.
    bytes: u64,
    documents: Vec<Document>,
}

impl Reading {
    fn file(&mut self, file: &str, bytes: &[u8]) -> Result<(), InputError> {
        let before = self.documents.len();
        match sniff(bytes) {
            _ if bytes.iter().all(u8::is_ascii_whitespace) => {}
            Sniffed::Mode(InputMode::Plain) => self.plain(file, bytes)?,
            Sniffed::Mode(mode @ (InputMode::Gzip | InputMode::Zlib)) => {
                self.compressed(file, mode, bytes)?;
            }
            sniffed => return Err(other_input(file, sniffed, bytes)),
        }
        if self.documents.len() == before {
            return Err(InputError::Empty { file: file.to_owned() });
        }
        Ok(())
    }

    fn plain(&mut self, file: &str, bytes: &[u8]) -> Result<(), InputError> {
        let (mut rest, mut boundary, mut number) = (bytes, Boundary::default(), 1);
        loop {
            let found = boundary.find(rest).map_err(|rejection| at(file, number, rejection))?;
            let (Found::Skip(length) | Found::Padding(length) | Found::Document(length)) = found
            else {
                break;
            };
            let (text, after) = rest.split_at(length.min(rest.len()));
            if matches!(found, Found::Document(_)) {
                self.document(file, number, text)?;
                number += 1;
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(cut(file, number, rest.len())) }
    }

    fn compressed(&mut self, file: &str, mode: InputMode, bytes: &[u8]) -> Result<(), InputError> {
        let (mut rest, mut stream, mut number) = (bytes, Stream::new(mode), 1);
        loop {
            let flow = stream.next(rest, &self.limits);
            match flow.map_err(|rejection| at(file, number, rejection))? {
                Flow::Document(consumed) => {
                    rest = rest.get(consumed..).unwrap_or_default();
                    self.document(file, number, stream.document())?;
                    number += 1;
                }
                Flow::Nothing(0) => break,
                Flow::Nothing(consumed) => rest = rest.get(consumed..).unwrap_or_default(),
            }
        }
        let is_whole = rest.is_empty() && stream.is_at_boundary();
        if is_whole { Ok(()) } else { Err(cut(file, number, stream.held_bytes())) }
    }

    fn document(&mut self, file: &str, number: usize, text: &[u8]) -> Result<(), InputError> {
        if text.len() > self.limits.inflated_bytes_max {
            let detail = format_args!("a document of {} bytes", text.len());
            return Err(at(file, number, Rejection::new(Cause::InflateTooLong, detail)));
        }
        let mut unit = Unit::new();
        read_document(text, None, &self.limits, &mut unit)
            .map_err(|rejection| at(file, number, rejection))?;
        let router = self.router_of(file, number, unit.router)?;
        let refused = if unit.rejected.is_empty() {
            Vec::new()
        } else {
            refused_mappings(text, router, &self.limits)
        };
        let sequence = self.sequences.entry(router).or_default();
        *sequence += 1;
        let frame = encode(&mut self.encoder, &self.limits, *sequence, text);
        let sent_bytes_max = WireLimits::default().frame_bytes_max + HEADER_BYTES;
        if frame.len() > sent_bytes_max {
            let detail = format_args!("a document of {} bytes, compressed", frame.len());
            return Err(at(file, number, Rejection::new(Cause::FrameTooLong, detail)));
        }
        self.bytes += frame.len() as u64;
        if self.bytes > INPUT_BYTES_MAX {
            return Err(InputError::TooLarge { file: file.to_owned() });
        }
        self.documents.push(Document {
            file: file.to_owned(),
            number,
            router,
            snapshot: unit.snapshot,
            mappings: unit.mappings.len(),
            refused,
            sequence: *sequence,
            frame,
        });
        Ok(())
    }

    fn router_of(
        &self,
        file: &str,
        document: usize,
        named: Option<RouterId>,
    ) -> Result<RouterId, InputError> {
        let file_name = || file.to_owned();
        match (named, self.router) {
            (Some(found), Some(asked)) if found != asked => {
                Err(InputError::Contradiction { file: file_name(), document, found, asked })
            }
            (Some(router), _) | (None, Some(router)) => Ok(router),
            (None, None) => {
                let before = self.documents.last().filter(|before| before.file == file);
                let nameless = InputError::Nameless { file: file_name(), document };
                before.map(|before| before.router).ok_or(nameless)
            }
        }
    }
}

/// The document in a frame; uncompressed where it is short, or shrinks beyond what is believed.
fn encode(encoder: &mut FrameEncoder, limits: &WireLimits, sequence: u64, text: &[u8]) -> Vec<u8> {
    let mut write = |codec| {
        let mut frame = Vec::new();
        encoder.frame(FrameType::Mappings, codec, FrameFlags::NONE, sequence, text, &mut frame);
        frame
    };
    if text.len() < PLAIN_BYTES_MAX {
        return write(Codec::None);
    }
    let frame = write(Codec::Zlib);
    let payload_bytes = frame.len() - HEADER_BYTES;
    let is_believed = payload_bytes.saturating_mul(limits.inflate_ratio_max) >= text.len();
    if is_believed { frame } else { write(Codec::None) }
}

fn other_input(file: &str, sniffed: Sniffed, bytes: &[u8]) -> InputError {
    let probably = match (sniffed, guess(bytes)) {
        (Sniffed::Mode(InputMode::Fpm), _) => {
            ", which is FPM: `stormgen replay` sends recorded sessions again".to_owned()
        }
        (Sniffed::Mode(InputMode::Framed), _) => {
            ", which is a framed session: `stormgen replay` sends those again".to_owned()
        }
        (_, Some(guess)) => format!(", probably {guess}"),
        (_, None) => String::new(),
    };
    let first = bytes.get(..bytes.len().min(8)).unwrap_or_default().to_vec();
    InputError::Mode { file: file.to_owned(), first, probably }
}

fn cut(file: &str, number: usize, held_bytes: usize) -> InputError {
    let detail = format_args!("the file ends {held_bytes} bytes into a document");
    at(file, number, Rejection::new(Cause::Truncated, detail))
}

fn at(file: &str, document: usize, rejection: Rejection) -> InputError {
    let Rejection { cause, detail } = rejection;
    let fix = match cause {
        Cause::Truncated => ": copy it again, whole",
        Cause::FrameTooLong | Cause::InflateTooLong => {
            ": write the table as several documents, or send it framed in parts"
        }
        _ => "",
    };
    InputError::Document { file: file.to_owned(), document, cause, detail, fix }
}
