//! Whoever sends to a peer: prepared bytes over several connections, in a process of its own.
//!
//! In:   an offer, a form, a way to send, how many connections; orders of the bench.
//! Out:  bytes on sockets; how many mappings and bytes, once the peer has taken them all.
//! Law:  everything is written down before the first connection; an order is over when the peer
//!       has read its last byte, as far as its protocol lets a sender know.
//! Not:  what the peer has kept of it (the modules of the peers).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use storage::mapping::{Mapping, RouterId};

use super::offer::Offer;
use super::text::Form;
use crate::bench::BenchError;
use crate::process::{self, Process, number};

/// Name of the role.
pub(crate) const ROLE: &str = "peer-feeder";
/// Bytes of one write, as large as those of the senders that the collector has.
const WRITE_BYTES: usize = 64 << 10;
/// The longest that a peer takes to read or to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the text of an offer gets to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One line after another.
    Stream,
    /// One HTTP request per connection; its body is all that the connection has to say.
    Http(&'static str),
    /// A connection for every batch, as a message that ends where it is shut down.
    Messages,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Stream => "stream",
            Way::Http(_) => "http",
            Way::Messages => "messages",
        }
    }
}

/// A process that sends.
pub(crate) struct Feeder {
    /// The process.
    pub(crate) process: Process,
}

impl Feeder {
    /// Starts it; returns when everything is written down.
    pub(crate) fn start(
        offer: &Offer,
        form: Form,
        way: Way,
        connections: usize,
        target: SocketAddr,
    ) -> Result<Feeder, BenchError> {
        let mut arguments = offer.arguments();
        arguments.push(format!("target={target}"));
        arguments.push(format!("connections={connections}"));
        arguments.push(format!("form={}", form.name()));
        arguments.push(format!("way={}", way.name()));
        if let Way::Http(path) = way {
            arguments.push(format!("path={path}"));
        }
        let mut process = Process::start(ROLE, &arguments, &[])?;
        process.answer()?;
        Ok(Feeder { process })
    }

    /// Sends the first tables; bytes written. Blocks until the peer has read them.
    pub(crate) fn tables(&mut self) -> Result<u64, BenchError> {
        self.order("tables")
    }

    /// Sends the changes; bytes written. Blocks until the peer has read them.
    pub(crate) fn changes(&mut self) -> Result<u64, BenchError> {
        self.order("changes")
    }

    fn order(&mut self, word: &str) -> Result<u64, BenchError> {
        let told = self.process.ask(word)?;
        told.parse().map_err(|_| BenchError::Process { role: ROLE, told })
    }
}

/// What one connection, or one after another, has to say.
#[derive(Default)]
struct Speech {
    text: Vec<u8>,
    /// Where each batch is in it.
    batches: Vec<Range<usize>>,
}

/// Writes everything down, then does what it is told.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let offer = Offer::parsed(ROLE, arguments)?;
    let argument = |name| process::argument(ROLE, arguments, name);
    let wrong = |expected, found: &str| BenchError::Role {
        role: ROLE.to_owned(),
        expected,
        found: found.to_owned(),
    };
    let target = argument("target")?;
    let target: SocketAddr = target.parse().map_err(|_| wrong("an address and a port", target))?;
    let name = argument("form")?;
    let form = Form::ALL.into_iter().find(|form| form.name() == name);
    let form = form.ok_or_else(|| wrong("a form of text", name))?;
    let way = argument("way")?;
    let path = if way == "http" { Some(argument("path")?) } else { None };
    let speak = |speech: &Speech| match path {
        Some(path) => request(target, path, &speech.text),
        None if way == "messages" => {
            speech.batches.iter().try_for_each(|batch| say(target, &speech.text[batch.clone()]))
        }
        None => say(target, &speech.text),
    };
    let connections = number(ROLE, arguments, "connections")?;
    let speeches = [true, false].map(|tables| written(&offer, form, connections, tables));
    process::answer("ready")?;
    for word in process::words() {
        let Some(which) = ["tables", "changes"].into_iter().position(|it| it == word) else {
            break;
        };
        let speeches = &speeches[which];
        std::thread::scope(|scope| {
            let speakers: Vec<_> =
                speeches.iter().map(|speech| scope.spawn(|| speak(speech))).collect();
            let ends = speakers.into_iter().map(|speaker| {
                speaker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ends.collect::<io::Result<Vec<()>>>()
        })?;
        let bytes: usize = speeches.iter().map(|speech| speech.text.len()).sum();
        process::answer(&bytes.to_string())?;
    }
    Ok(())
}

/// The first tables, or the changes, as each connection says them.
fn written(offer: &Offer, form: Form, connections: usize, tables: bool) -> Vec<Speech> {
    let mut speeches: Vec<Speech> = (0..connections).map(|_| Speech::default()).collect();
    let write = |place: usize, router: RouterId, batch: &[Mapping]| {
        let Speech { text, batches } = &mut speeches[place % connections];
        let begin = text.len();
        // Statuses of one message have a blank line between them, and a word before them.
        let is_combo = form == Form::Status && batch.len() > 1;
        if is_combo {
            text.extend_from_slice(b"combo\n");
        }
        for mapping in batch {
            form.write(router, mapping, text);
            if is_combo {
                text.push(b'\n');
            }
        }
        batches.push(begin..text.len());
    };
    if tables {
        offer.tables(write)
    } else {
        offer.changes(write)
    }
    speeches
}

/// Connects, says everything, and waits until the other side has read it and hangs up.
fn say(target: SocketAddr, text: &[u8]) -> io::Result<()> {
    let mut stream = connect(target)?;
    write(&mut stream, text)?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Posts a body; an answer that is not 2xx is an error that says so.
pub(crate) fn request(target: SocketAddr, path: &str, body: &[u8]) -> io::Result<()> {
    ask(target, path, body).map(drop)
}

/// Posts a body; the body of the answer.
pub(crate) fn ask(target: SocketAddr, path: &str, body: &[u8]) -> io::Result<String> {
    let mut stream = connect(target)?;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.0\r\nHost: {target}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    write(&mut stream, body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        let told = answer.lines().last().unwrap_or_default();
        return Err(io::Error::other(format!("{target}{path} answered `{status}`: {told}")));
    }
    Ok(body.to_owned())
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn write(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    text.chunks(WRITE_BYTES).try_for_each(|part| stream.write_all(part))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_line_is_written_once_and_a_message_is_a_batch() {
        let offer = Offer::new(7, 20, 5, 70);
        for (form, extra_lines) in [(Form::Tsv, 0), (Form::Status, 6)] {
            for (tables, mappings) in [(true, 140), (false, 70)] {
                let speeches = written(&offer, form, 3, tables);
                let text = speeches.iter().map(|speech| &speech.text[..]).collect::<Vec<_>>();
                let lines = text.concat().iter().filter(|byte| **byte == b'\n').count();
                assert_eq!(lines, mappings + mappings / 5 * extra_lines);
                let batches: usize = speeches.iter().map(|speech| speech.batches.len()).sum();
                assert_eq!((speeches.len(), batches), (3, mappings / 5));
            }
        }
        let combo = &written(&offer, Form::Status, 1, false)[0];
        let text = std::str::from_utf8(&combo.text[combo.batches[1].clone()]).unwrap();
        assert!(text.starts_with("combo\nstatus r127-64-"), "{text}");
        assert_eq!(text.matches("\n\nstatus ").count(), 4, "{text}");
        let single = &written(&Offer::new(7, 20, 1, 7), Form::Status, 1, false)[0];
        assert!(single.text.starts_with(b"status "));
    }

    #[test]
    fn an_answer_that_is_no_success_says_what_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.0 200 OK\r\n\r\n42", "HTTP/1.0 500 No\r\n\r\nfull"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1_024];
                let mut read = 0;
                while !request[..read].ends_with(b"body") {
                    read += stream.read(&mut request[read..]).unwrap();
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(ask(target, "/", b"body").unwrap(), "42");
        let error = ask(target, "/", b"body").unwrap_err().to_string();
        assert!(error.contains("`500`") && error.contains("full"), "{error}");
        server.join().unwrap();
    }
}
