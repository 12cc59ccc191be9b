//! xymond: the last status of each entry, in memory.
//!
//! In:   `status` messages, one per connection, or many of them in a `combo`.
//! Out:  a board: host (router) x column (entry of its table), and what was said of it last.
//! Law:  counted are statuses of the board that say what was offered last.
//! Not:  history: no change of colour, none kept; a checkpoint file at intervals, never synced.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;

use super::daemon::{Daemon, free_address};
use super::offer::Offer;
use super::text::{column, host, put_status};
use super::{Running, Started};
use crate::bench::BenchError;

/// Connections that wait to be accepted, at most.
const BACKLOG: usize = 512;
const QUESTION: &[u8] = b"xymondboard fields=hostname,testname,line1";

/// Settings of its environment: all of its files are in the folder.
fn environment(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let settings = [
        ("XYMONHOME", folder.to_string()),
        ("XYMONTMP", folder.to_string()),
        ("XYMONSERVERLOGS", folder.to_string()),
        ("HOSTSCFG", format!("{folder}/hosts.cfg")),
        ("XYMSRV", "127.0.0.1".to_owned()),
        ("XYMONDPORT", port.to_string()),
        ("MACHINE", "peer".to_owned()),
        ("MACHINEDOTS", "peer".to_owned()),
    ];
    settings.map(|(name, value)| format!("{name}=\"{value}\"\n")).concat()
}

/// Starts it. It knows every router of the offer as a host.
pub(crate) fn start(program: &Path, folder: &Path, offer: &Offer) -> Result<Started, BenchError> {
    let target = free_address()?;
    let mut routers = HashSet::new();
    offer.tables(|_, router, _| {
        routers.insert(router);
    });
    let hosts = routers.iter().map(|router| format!("{router} {} # noconn\n", host(*router)));
    fs::write(folder.join("hosts.cfg"), hosts.collect::<String>())?;
    fs::create_dir_all(folder.join("etc"))?;
    fs::write(folder.join("etc/xymonserver.cfg"), environment(folder, target.port()))?;
    let folder_text = folder.display();
    let command = [
        // The variables are needed before the file that holds them is read.
        "/usr/bin/env".to_owned(),
        format!("XYMONHOME={folder_text}"),
        program.display().to_string(),
        "--no-daemon".to_owned(),
        format!("--listen={target}"),
        format!("--lqueue={BACKLOG}"),
        format!("--hosts={folder_text}/hosts.cfg"),
        format!("--env={folder_text}/etc/xymonserver.cfg"),
        format!("--pidfile={folder_text}/pid"),
        format!("--checkpoint-file={folder_text}/checkpoint"),
    ];
    let daemon = Daemon::start(folder, &command)?;
    daemon.wait_for(target)?;
    let all = offer.table_mappings() + offer.change_mappings();
    Ok(Started { daemon, target, running: Box::new(Board { all, last: last_said(offer) }) })
}

/// Its board: how much is offered, and what the last of it has to leave there.
struct Board {
    all: u64,
    last: HashMap<Vec<u8>, Vec<u8>>,
}

impl Running for Board {
    fn stored(&mut self, target: SocketAddr) -> Result<u64, BenchError> {
        let mut stream = TcpStream::connect(target)?;
        stream.write_all(QUESTION)?;
        stream.shutdown(Shutdown::Write)?;
        let mut board = Vec::new();
        stream.read_to_end(&mut board)?;
        let lines = board.split(|byte| *byte == b'\n');
        let found = lines.filter(|line| {
            let cut = line.iter().rposition(|byte| *byte == b'|').map(|at| line.split_at(at + 1));
            cut.is_some_and(|(key, said)| self.last.get(key).is_some_and(|last| last == said))
        });
        let found = found.count();
        // The board keeps the last of each: if all of these are there, every message was read, as
        // it reads them one after another and hangs up behind each.
        let is_whole = found == self.last.len();
        Ok(if is_whole { self.all } else { found as u64 })
    }
}

/// `host|column|` of every status, and what was said of it last.
fn last_said(offer: &Offer) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut last = HashMap::new();
    let mut keep = |_: usize, router, batch: &[storage::mapping::Mapping]| {
        for mapping in batch {
            let mut said = Vec::new();
            put_status(mapping, &mut said);
            last.insert(format!("{}|{}|", host(router), column(mapping)).into_bytes(), said);
        }
    };
    offer.tables(&mut keep);
    offer.changes(&mut keep);
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_keeps_every_file_in_its_folder() {
        let text = environment(Path::new("/tmp/peer"), 4_711);
        assert!(text.contains("XYMONDPORT=\"4711\"\n"), "{text}");
        assert!(text.contains("HOSTSCFG=\"/tmp/peer/hosts.cfg\"\n"), "{text}");
    }

    #[test]
    fn the_last_word_on_every_entry_is_kept() {
        let offer = Offer::new(3, 20, 5, 60);
        let last = last_said(&offer);
        assert_eq!(last.len(), 60);
        assert!(last.keys().all(|key| key.iter().filter(|byte| **byte == b'|').count() == 2));
        let tables_only = last_said(&Offer { rounds: 0, ..offer });
        assert_ne!(last, tables_only);
    }
}
