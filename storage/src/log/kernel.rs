//! The files of kernel rows: one per hour, beside those of the shards, and nobody's table.
//!
//! In:   kernel rows in the order in which they were seen.
//! Out:  a block for the hour's file; the rows of an interval; a file without a torn end.
//! Law:  no question about a router reads them, and no recovery waits for them.
//! Not:  what a counter means, or who writes when (engine).

use std::path::Path;

use super::layout::{KERNEL_FILE, KERNEL_SHARD, LOG_FOLDER};
use super::read::{Filter, ReadReport, read_file};
use super::recover::{Cut, Kernel, settle_files};
use super::{BlockBuilder, LogError, LogFile, entries};
use crate::allowance::Allowance;
use crate::row::{KernelRow, Row};
use crate::time::{Hour, MICROS_PER_SECOND, Micros};

/// A row is handed to the log at most so long after its time: those of an instant lie in the file
/// of its hour, or of the hour in which this ends.
const WRITTEN_AFTER_US_MAX: i64 = 120 * MICROS_PER_SECOND;

/// Every file of kernel rows, by hour; none when there is no log yet.
pub fn kernel_files(data: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut files = Vec::new();
    for (name, folder) in entries(&data.join(LOG_FOLDER))? {
        let Ok(hour) = name.parse::<Hour>() else { continue };
        let path = folder.join(KERNEL_FILE);
        match path.metadata() {
            Ok(metadata) => {
                let (shard, length) = (KERNEL_SHARD, metadata.len());
                files.push(LogFile { hour, shard, path, length, sealed: false });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LogError::io("measure", &path)(error)),
        }
    }
    files.sort();
    Ok(files)
}

/// One block of these rows. Before it is written, everything before it must be durable.
pub fn kernel_block(rows: &[KernelRow]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(KERNEL_SHARD);
    builder.all_before_is_durable();
    rows.iter().for_each(|row| builder.kernel(row));
    let mut block = Vec::new();
    builder.finish(&mut block);
    block
}

/// Gives the kernel rows of an interval, both ends included, in the order in which they were seen.
///
/// Errors: a file or folder that cannot be read. Damaged blocks are in the report.
pub fn read_kernel(
    data: &Path,
    since: Micros,
    until: Micros,
    on_row: &mut dyn FnMut(KernelRow),
) -> Result<ReadReport, LogError> {
    read_kernel_within(data, since, until, None, on_row)
}

/// The same, within what it may take.
pub fn read_kernel_within(
    data: &Path,
    since: Micros,
    until: Micros,
    allowance: Option<&Allowance>,
    on_row: &mut dyn FnMut(KernelRow),
) -> Result<ReadReport, LogError> {
    let hours = since.hour()..=until.offset(WRITTEN_AFTER_US_MAX).hour();
    let filter = Filter { kernel: true, allowance, ..Filter::NONE };
    let mut report = ReadReport::default();
    for file in kernel_files(data)?.into_iter().filter(|file| hours.contains(&file.hour)) {
        read_file(&file, &filter, &mut report, &mut |row| {
            if let Row::Kernel(row) = row
                && since <= row.time
                && row.time <= until
            {
                on_row(row);
            }
        })?;
    }
    Ok(report)
}

/// Makes what an hour's file has durable, and cuts its torn end, if it has one: blocks follow
/// blocks. Its writer does so before it goes on.
pub fn settle_kernel(data: &Path, hour: Hour) -> Result<Option<Cut>, LogError> {
    let file = kernel_files(data)?.into_iter().find(|file| file.hour == hour);
    let files: Vec<LogFile> = file.into_iter().collect();
    Ok(settle_files(&files, &|_| 0, &mut Kernel)?.pop())
}

#[cfg(test)]
mod tests {
    use super::super::{log_files, log_path, read, verify};
    use super::*;
    use crate::time::MICROS_PER_HOUR;

    const HOUR: Hour = Hour(498_611);

    fn row(after_us: i64, counter: &str, value: u64) -> KernelRow {
        KernelRow { time: HOUR.start().offset(after_us), counter: counter.into(), value }
    }

    fn append(data: &Path, hour: Hour, bytes: &[u8]) {
        let path = log_path(data, hour, KERNEL_SHARD);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut held = std::fs::read(&path).unwrap_or_default();
        held.extend_from_slice(bytes);
        std::fs::write(&path, held).unwrap();
    }

    fn rows(data: &Path, since_us: i64, until_us: i64) -> Vec<KernelRow> {
        let (since, until) = (HOUR.start().offset(since_us), HOUR.start().offset(until_us));
        let mut rows = Vec::new();
        read_kernel(data, since, until, &mut |row| rows.push(row)).unwrap();
        rows
    }

    #[test]
    fn rows_of_an_interval_come_back_whichever_hour_they_were_written_in() {
        let data = tempfile::tempdir().unwrap();
        let first = [row(1, "TcpExt.PruneCalled", 3), row(2, "stall.io.some_us", 1 << 40)];
        let late = [row(MICROS_PER_HOUR - 1, "TcpExt.PruneCalled", 4)];
        append(data.path(), HOUR, &kernel_block(&first));
        append(data.path(), HOUR.next(), &kernel_block(&late));
        assert_eq!(rows(data.path(), 0, MICROS_PER_HOUR), [first.as_slice(), &late].concat());
        assert_eq!(rows(data.path(), 2, 2), [first[1].clone()]);
        assert_eq!(rows(data.path(), 3, MICROS_PER_HOUR - 2), []);
        // They are of the log, and of no shard.
        assert_eq!(log_files(data.path()).unwrap(), []);
        let mut all = 0;
        read(data.path(), &Filter::default(), &mut |_| all += 1).unwrap();
        assert_eq!(all, 3);
        let report = verify(data.path()).unwrap();
        assert_eq!((report.files, report.kernel_rows, report.faults_count), (2, 3, 0));
    }

    #[test]
    fn a_torn_end_is_cut_and_the_file_goes_on() {
        let data = tempfile::tempdir().unwrap();
        let first = [row(1, "a", 1)];
        let block = kernel_block(&first);
        append(data.path(), HOUR, &block);
        assert_eq!(settle_kernel(data.path(), HOUR).unwrap(), None);
        append(data.path(), HOUR, &block[..block.len() - 1]);
        assert_eq!(rows(data.path(), 0, 9), first);
        let cut = settle_kernel(data.path(), HOUR).unwrap().unwrap();
        assert_eq!((cut.offset, cut.bytes), (block.len() as u64, block.len() as u64 - 1));
        append(data.path(), HOUR, &kernel_block(&[row(2, "b", 2)]));
        assert_eq!(rows(data.path(), 0, 9).len(), 2);
        assert_eq!(verify(data.path()).unwrap().faults_count, 0);
        assert_eq!(settle_kernel(data.path(), HOUR.next()).unwrap(), None);
    }

    #[test]
    fn verifying_finds_damage_and_rows_that_do_not_belong_there() {
        let data = tempfile::tempdir().unwrap();
        let mut damaged = kernel_block(&[row(1, "a", 1)]);
        *damaged.last_mut().unwrap() ^= 1;
        append(data.path(), HOUR, &damaged);
        append(data.path(), HOUR, &kernel_block(&[row(2, "b", 2)]));
        let mut builder = BlockBuilder::new(0);
        builder.kernel(&row(3, "c", 3));
        let mut foreign = Vec::new();
        builder.finish(&mut foreign);
        append(data.path(), HOUR.next(), &foreign);
        let report = verify(data.path()).unwrap();
        assert_eq!(report.faults_count, 2, "{:?}", report.faults);
        assert_eq!(report.kernel_rows, 2);
    }
}
