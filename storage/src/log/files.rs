//! Opens and makes the files of a data folder: no link leads elsewhere, nobody else may write.
//!
//! In:   paths in a data folder.
//! Out:  descriptors of regular files; folders; what stands in a file's place instead.
//! Law:  the last part of a path is never a link; what is made is 0640 and 0750 at most.
//! Not:  where files lie (`log`), what is written to them (`recover`, the engine's disk thread).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::LogError;

/// What may be done with a file that is made: the owner writes, the group reads. The umask may take
/// away more.
const FILE_MODE: u32 = 0o640;
/// The same of a folder.
const FOLDER_MODE: u32 = 0o750;
/// A link in the last place is an error, and a pipe there makes nobody wait.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// Opens a file that is there, to write to it.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    regular(options().open(path)?)
}

/// Opens a file to write to it, and makes it where it is missing.
pub fn open_or_make(path: &Path) -> io::Result<File> {
    regular(options().create(true).truncate(false).open(path)?)
}

/// Makes a file that is not there yet.
pub fn make_new(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Makes a folder, and those above it that are missing.
pub fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Makes a folder in one that is there; one that is there already is in order.
pub fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE).custom_flags(FLAGS);
    options
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Refuses what is no regular file: whoever put a link or a pipe there must not decide what the
/// collector writes to, or waits for. What is not there is in order.
pub(crate) fn check(path: &Path) -> Result<(), LogError> {
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LogError::io("look at", path)(error)),
    };
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () => "a device or socket",
    };
    Err(LogError::NotAFile { path: path.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        std::fs::write(&victim, "kept").unwrap();
        symlink(&victim, &link).unwrap();
        for opened in [open_to_write(&link), open_or_make(&link)] {
            assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::ELOOP));
        }
        make_new(&link).unwrap_err();
        let refused = check(&link).unwrap_err().to_string();
        assert!(refused.contains("a symbolic link") && refused.contains("link"), "{refused}");
        symlink(folder.path().join("nothing"), folder.path().join("dangling")).unwrap();
        open_or_make(&folder.path().join("dangling")).unwrap_err();
        assert!(!folder.path().join("nothing").exists());
        assert_eq!(std::fs::read(&victim).unwrap(), b"kept");
        check(&victim).unwrap();
        check(&folder.path().join("absent")).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("a folder"));
    }

    #[test]
    fn what_is_made_nobody_else_may_write_or_read() {
        let folder = tempfile::tempdir().unwrap();
        let (above, file) = (folder.path().join("a/b"), folder.path().join("a/b/file"));
        make_folders(&above).unwrap();
        make_folders(&above).unwrap();
        drop(open_or_make(&file).unwrap());
        drop(make_new(&folder.path().join("new")).unwrap());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        for path in [above.as_path(), &file, &folder.path().join("new")] {
            assert_eq!(mode(path) & 0o027, 0, "{}: {:o}", path.display(), mode(path));
        }
    }
}
