//! Where an open file stands, and whether it still does.
//!
//! In:   an open file, and the path under which it was opened.
//! Out:  whether the path leads to this very file.
//! Law:  one system call per look; a file that was unlinked, replaced or moved is never taken for
//!       one that readers find, and neither is one whose folder or mount is gone.
//! Not:  what follows from it (`disk`, `collector`).

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use storage::log::LogError;

/// A path, and the file that was opened there.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    id: (u64, u64),
}

impl Place {
    /// The place of a file that was opened under this path.
    pub(super) fn of(file: &File, path: PathBuf) -> io::Result<Place> {
        Ok(Place { path, id: id(&file.metadata()?) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Errors: the path leads elsewhere, or nowhere.
    pub(super) fn check(&self) -> Result<(), LogError> {
        let why = match self.path.symlink_metadata() {
            Ok(found) if id(&found) == self.id => return Ok(()),
            Ok(_) => "another file is in its place".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(LogError::Gone { path: self.path.clone(), why })
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_goes_or_is_exchanged_is_noticed() {
        let above = tempfile::tempdir().unwrap();
        let (folder, aside) = (above.path().join("folder"), above.path().join("aside"));
        std::fs::create_dir(&folder).unwrap();
        let (path, other) = (folder.join("file"), folder.join("other"));
        let open = || {
            let file = File::create(&path).unwrap();
            (Place::of(&file, path.clone()).unwrap(), file)
        };
        let told = |place: &Place| place.check().unwrap_err().to_string();

        let (place, _file) = open();
        place.check().unwrap();
        std::fs::rename(&path, &other).unwrap();
        assert!(told(&place).contains("No such file"), "{}", told(&place));
        std::fs::write(&path, "").unwrap();
        assert!(told(&place).contains("another file"), "{}", told(&place));
        std::fs::rename(&other, &path).unwrap();
        place.check().unwrap();
        // A link to the file is not the file: it may lead elsewhere a moment later.
        std::fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        place.check().unwrap_err();
        std::fs::remove_file(&path).unwrap();

        let (place, _file) = open();
        std::fs::rename(&folder, &aside).unwrap();
        place.check().unwrap_err();
        std::fs::rename(&aside, &folder).unwrap();
        place.check().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        place.check().unwrap_err();
    }
}
