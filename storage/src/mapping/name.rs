//! Names that routers give: of VRFs, LSPs, interfaces.
//!
//! In:   text of at most `NAME_BYTES_MAX` bytes.
//! Out:  a value that is copied and compared like a number, and prints as it came.
//! Law:  two names are equal exactly when their bytes are.
//! Not:  what a name stands for (`fec`, `branch`).

use std::fmt;
use std::str::FromStr;

use super::ModelParseError;

/// Bytes of the longest name. Junos names LSPs with up to 64 characters, IOS XR its VRFs with 32.
pub const NAME_BYTES_MAX: usize = 64;

/// A name of 1 to 64 bytes, without control characters. Kept in place: FECs and keys that carry one
/// stay as cheap to copy as those that carry addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Padded with zeros, which no name contains: so the order is that of the texts.
    bytes: [u8; NAME_BYTES_MAX],
    length: u8,
}

impl Name {
    /// A name, or `None` when the text is empty, too long, or holds a control character.
    pub fn new(text: &str) -> Option<Name> {
        if text.is_empty() || text.contains(char::is_control) {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Name { bytes, length: text.len() as u8 })
    }

    /// The text that the name was made of.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for Name {
    type Err = ModelParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Name::new(text).ok_or_else(|| ModelParseError {
            what: "name",
            text: text.to_owned(),
            expected: "1 to 64 bytes without control characters",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text() {
        for text in ["a", "Tunnel-te1", "vrf rouge, côté client", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(Name::new(text).map(|name| name.to_string()).as_deref(), Some(text));
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(Name::new(bad), None, "{bad:?}");
        }
        let mut names = ["b", "ab", "a", "abc"].map(|text| Name::new(text).unwrap());
        names.sort_unstable();
        assert_eq!(names.map(|name| name.to_string()), ["a", "ab", "abc", "b"]);
    }
}
