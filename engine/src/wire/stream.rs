//! Inflates a bare gzip or zlib stream whose length nobody declares, and cuts it into documents.
//!
//! In:   the compressed bytes of a session, as far as they have come.
//! Out:  one document after another, inflated.
//! Law:  bytes are consumed only when nothing more comes out of them, so none waits unseen here.
//! Not:  what a document says (`xml`); frames, whose length is declared (`inflate`).

use flate2::{Decompress, FlushDecompress, Status};
use storage::row::{Cause, InputMode};

use super::boundary::{Boundary, Found, PADDING, quoted};
use super::{Rejection, WireLimits};

/// Inflated in one go, before documents are looked for in it.
const WINDOW_BYTES: usize = 64 << 10;
/// Inflated bytes of a member below which no ratio is asked.
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// What the inflater of a member takes: a window of 32 KiB and its tables.
const MEMBER_BYTES: usize = 48 << 10;
/// Text whose memory is kept between documents.
const TEXT_BYTES_KEPT: usize = 256 << 10;

/// What came out of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A document lies in `Stream::document` until the next call. So many bytes are done with.
    Document(usize),
    /// No document is complete yet. So many bytes, all there were, are done with.
    Nothing(usize),
}

/// A compressed session: about 48 KiB inside a member, and the text of the document under way.
pub struct Stream {
    mode: InputMode,
    /// The member that has begun and not ended.
    member: Option<Decompress>,
    /// Bytes at the front of the input that were fed already and are not reported yet.
    fed: usize,
    /// Inflated bytes; those before `start` are done with.
    text: Vec<u8>,
    start: usize,
    /// Length of the document at `start` that was given out.
    given: usize,
    boundary: Boundary,
    /// Bytes of padding that were passed over: between documents, and between members.
    pub padding_bytes: u64,
    /// Why nothing more can be inflated: said when the documents before it are out.
    failed: Option<Rejection>,
}

impl Stream {
    /// A stream of gzip members, or of zlib streams.
    pub fn new(mode: InputMode) -> Stream {
        Stream {
            mode,
            member: None,
            fed: 0,
            text: Vec::new(),
            start: 0,
            given: 0,
            boundary: Boundary::default(),
            padding_bytes: 0,
            failed: None,
        }
    }

    /// The document that the last `Flow::Document` spoke of.
    pub fn document(&self) -> &[u8] {
        self.text.get(self.start..self.start + self.given).unwrap_or_default()
    }

    /// Memory that it takes: the text, and the window of a member that has begun.
    pub fn memory_bytes(&self) -> usize {
        let window_bytes = if self.member.is_some() { MEMBER_BYTES } else { 0 };
        self.text.capacity() + window_bytes
    }

    /// Inflated bytes that are kept here until their document is complete.
    pub fn held_bytes(&self) -> usize {
        self.text.len() - self.start
    }

    /// Whether the stream may end here: no member and no document is open.
    pub fn is_at_boundary(&self) -> bool {
        self.member.is_none() && self.held_bytes() == self.given && self.fed == 0
    }

    /// Goes on until a document is complete or nothing more comes out of `bytes`.
    /// Errors: the stream is damaged or beyond the limits; it cannot be read on.
    pub fn next(&mut self, bytes: &[u8], limits: &WireLimits) -> Result<Flow, Rejection> {
        // The text of the last document stayed until now, because it was borrowed.
        self.start += std::mem::take(&mut self.given);
        loop {
            if let Some(length) = self.find_document(limits)? {
                self.given = length;
                return Ok(Flow::Document(0));
            }
            if let Some(rejection) = self.failed.take() {
                return Err(rejection);
            }
            if !self.feed(bytes, limits) {
                let consumed = std::mem::take(&mut self.fed);
                return Ok(Flow::Nothing(consumed));
            }
        }
    }

    fn find_document(&mut self, limits: &WireLimits) -> Result<Option<usize>, Rejection> {
        let length = loop {
            match self.boundary.find(self.text.get(self.start..).unwrap_or_default())? {
                Found::Skip(length) => self.start += length,
                Found::Padding(length) => {
                    self.start += length;
                    self.padding_bytes += length as u64;
                }
                Found::More => break None,
                Found::Document(length) => break Some(length),
            }
        };
        let longest = limits.inflated_bytes_max;
        if length.unwrap_or(self.held_bytes()) > longest {
            let detail = format_args!(
                "a document of more than {longest} bytes, inflated: send it framed in parts, or \
                 raise inflated_bytes_max"
            );
            return Err(Rejection::new(Cause::InflateTooLong, detail));
        }
        Ok(length)
    }

    /// Inflates some of the bytes. `false` = nothing more comes out of them.
    fn feed(&mut self, bytes: &[u8], limits: &WireLimits) -> bool {
        let input = bytes.get(self.fed..).unwrap_or_default();
        // Behind a member another one may follow: its header is checked by the inflater. Padding
        // may, too: no member begins like that.
        let mut member = match self.member.take() {
            Some(member) => member,
            None if input.is_empty() => return false,
            None => {
                let padding = input.iter().take_while(|byte| PADDING.contains(byte)).count();
                if padding > 0 {
                    self.fed += padding;
                    self.padding_bytes += padding as u64;
                    return true;
                }
                if !self.may_begin(input) {
                    let what = format!("expected a member or the end, found {}", quoted(input));
                    let detail = format_args!("behind a {} member: {what}", self.mode.name());
                    self.failed = Some(Rejection::new(Cause::InflateFailed, detail));
                    return true;
                }
                inflate_of(self.mode)
            }
        };
        self.make_room();
        let (in_before, out_before) = (member.total_in(), member.total_out());
        let status = member.decompress_vec(input, &mut self.text, FlushDecompress::None);
        let (taken, given) = (member.total_in() - in_before, member.total_out() - out_before);
        self.fed += usize::try_from(taken).unwrap_or(usize::MAX);
        let has_ended = match status {
            Ok(status) => status == Status::StreamEnd,
            Err(error) => {
                let (mode, at) = (self.mode.name(), member.total_in());
                let detail = format_args!("byte {at} of a {mode} member: {error}");
                self.failed = Some(Rejection::new(Cause::InflateFailed, detail));
                return true;
            }
        };
        self.failed = check_ratio(&member, limits).err();
        if !has_ended {
            self.member = Some(member);
        }
        taken > 0 || given > 0 || has_ended
    }

    /// Whether a member may begin like this, as far as its first byte tells.
    fn may_begin(&self, input: &[u8]) -> bool {
        match (self.mode, input.first()) {
            (InputMode::Gzip, first) => first == Some(&0x1f),
            (_, first) => first.is_some_and(|first| first & 0x0f == 8),
        }
    }

    /// Moves what is left of the text to the front, and leaves room for a window behind it.
    fn make_room(&mut self) {
        self.text.drain(..self.start);
        self.start = 0;
        if self.text.is_empty() {
            self.text.shrink_to(TEXT_BYTES_KEPT);
        }
        self.text.reserve(WINDOW_BYTES);
    }
}

/// A member that is to begin.
fn inflate_of(mode: InputMode) -> Decompress {
    /// The largest window of RFC 1951: it reads streams of every window.
    const WINDOW_BITS: u8 = 15;
    match mode {
        InputMode::Gzip => Decompress::new_gzip(WINDOW_BITS),
        _ => Decompress::new(true),
    }
}

fn check_ratio(member: &Decompress, limits: &WireLimits) -> Result<(), Rejection> {
    let ratio_max = u64::try_from(limits.inflate_ratio_max).unwrap_or(u64::MAX);
    let (bytes_in, bytes_out) = (member.total_in(), member.total_out());
    if bytes_out <= RATIO_FREE_BYTES || bytes_out <= bytes_in.saturating_mul(ratio_max) {
        return Ok(());
    }
    let detail = format_args!(
        "{bytes_in} bytes inflate to {bytes_out}, ratio above {ratio_max} (inflate_ratio_max)"
    );
    Err(Rejection::new(Cause::InflateTooLong, detail))
}
