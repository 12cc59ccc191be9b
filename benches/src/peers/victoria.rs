//! VictoriaMetrics: samples of series, a series per field of each entry of a table.
//!
//! In:   InfluxDB lines over TCP: label and next hop of each branch are values.
//! Out:  samples that queries see.
//! Law:  counted are samples of the first branch's label, one per mapping.
//! Not:  what is no number: tags stay as they were when their series began.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::daemon::{Daemon, free_address};
use super::feeder::{ask, request};
use super::{Running, Started};
use crate::bench::BenchError;

const COUNT: &str = "/api/v1/query?nocache=1&query=sum(count_over_time(mapping_label0%5B1d%5D))";
/// Makes what has just arrived visible to queries.
const FLUSH: &str = "/internal/force_flush";

/// Starts it.
pub(crate) fn start(program: &Path, folder: &Path) -> Result<Started, BenchError> {
    let (target, http) = (free_address()?, free_address()?);
    let command = [
        program.display().to_string(),
        format!("-storageDataPath={}/data", folder.display()),
        format!("-httpListenAddr={http}"),
        format!("-influxListenAddr={target}"),
        "-retentionPeriod=100y".to_owned(),
        // Queries see what arrived in the last half minute too.
        "-search.latencyOffset=0s".to_owned(),
        "-loggerLevel=WARN".to_owned(),
    ];
    let daemon = Daemon::start(folder, &command)?;
    daemon.wait_for(target)?;
    daemon.wait_for(http)?;
    Ok(Started { daemon, target, running: Box::new(Samples { http }) })
}

/// Its samples.
struct Samples {
    http: SocketAddr,
}

impl Running for Samples {
    fn settle(&mut self) -> Result<(), BenchError> {
        Ok(request(self.http, FLUSH, b"")?)
    }

    fn stored(&mut self, _: SocketAddr) -> Result<u64, BenchError> {
        let answer = ask(self.http, COUNT, b"")?;
        let parsed: Value = serde_json::from_str(&answer).unwrap_or_default();
        // Without samples there is no result.
        match parsed.pointer("/data/result") {
            Some(Value::Array(results)) if results.is_empty() => Ok(0),
            _ => {
                let value = parsed.pointer("/data/result/0/value/1").and_then(Value::as_str);
                super::count_of(value.unwrap_or(&answer))
            }
        }
    }
}
