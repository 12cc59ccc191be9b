//! ClickHouse: one bulk insert per connection into a MergeTree.
//!
//! In:   tab separated rows over HTTP.
//! Out:  rows of a table, sorted by router and FEC.
//! Law:  counted is what a query counts.
//! Not:  syncs: this version leaves its parts to the kernel.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::daemon::{Daemon, free_address};
use super::feeder::ask;
use super::{Running, Started};
use crate::bench::BenchError;

/// What a connection asks for before its rows.
pub(crate) const INSERT: &str = "/?query=INSERT%20INTO%20mappings%20FORMAT%20TabSeparated";
/// The table: columns of their natural types, sorted for the questions that are asked, by the hour.
const TABLE: &str = "CREATE TABLE mappings (time Int64, router String, fec String, label Int32, \
     operation Enum8('push' = 1, 'swap' = 2, 'pop' = 3, 'replicate' = 4, 'none' = 5), \
     branches String) ENGINE = MergeTree PARTITION BY intDiv(time, 3600000000) \
     ORDER BY (router, fec, label, time)";
const COUNT: &str = "SELECT count() FROM mappings";
const USERS: &str = "<yandex>\
     <profiles><default/></profiles><quotas><default/></quotas>\
     <users><default><password></password><networks><ip>127.0.0.1</ip></networks>\
     <profile>default</profile><quota>default</quota></default></users></yandex>\n";

fn configuration(folder: &Path, http: u16, native: u16) -> String {
    let folder = folder.display();
    format!(
        "<yandex>\
         <logger><level>warning</level><log>{folder}/server.log</log>\
         <errorlog>{folder}/error.log</errorlog></logger>\
         <listen_host>127.0.0.1</listen_host>\
         <http_port>{http}</http_port><tcp_port>{native}</tcp_port>\
         <path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>\
         <users_config>{folder}/users.xml</users_config>\
         <default_profile>default</default_profile><default_database>default</default_database>\
         <mark_cache_size>268435456</mark_cache_size></yandex>\n"
    )
}

/// Starts it, with an empty table.
pub(crate) fn start(program: &Path, folder: &Path) -> Result<Started, BenchError> {
    let (target, native) = (free_address()?, free_address()?);
    let file = folder.join("config.xml");
    fs::write(&file, configuration(folder, target.port(), native.port()))?;
    fs::write(folder.join("users.xml"), USERS)?;
    let option = format!("--config-file={}", file.display());
    let daemon = Daemon::start(folder, &[program.display().to_string(), option])?;
    daemon.wait_for(target)?;
    ask(target, "/", TABLE.as_bytes())?;
    Ok(Started { daemon, target, running: Box::new(Rows) })
}

/// Its table.
struct Rows;

impl Running for Rows {
    fn stored(&mut self, target: SocketAddr) -> Result<u64, BenchError> {
        super::count_of(&ask(target, "/", COUNT.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_its_folder_and_ports() {
        let text = configuration(Path::new("/tmp/peer"), 4_711, 4_712);
        for words in ["<http_port>4711<", "<tcp_port>4712<", "<path>/tmp/peer/data/<"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!INSERT.contains(' '));
    }
}
