//! Passwords and tokens: read from files of their own, never from the configuration, and never printed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// Longest secret that is read, in bytes.
const SIZE_BYTES_MAX: usize = 4096;

/// A password or token. It does not show itself in `Debug`, and compares in constant time.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// Why a secret could not be had from a file.
#[derive(Debug)]
pub enum SecretError {
    /// The file could not be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its first line is empty, or longer than a secret may be.
    Unusable {
        /// Which.
        path: PathBuf,
    },
}

impl Secret {
    /// Reads the first line of a file, without its end.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is empty or longer than 4096 bytes.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes =
            std::fs::read(path).map_err(|source| SecretError::Unreadable { path: path.to_path_buf(), source })?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.len() > SIZE_BYTES_MAX {
            return Err(SecretError::Unusable { path: path.to_path_buf() });
        }
        Ok(Self(line.to_vec()))
    }

    /// A secret known already.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Whether `guess` is it; the time taken tells only the length.
    #[must_use]
    pub fn matches(&self, guess: &[u8]) -> bool {
        self.0.ct_eq(guess).into()
    }

    /// The bytes, for sending them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "read secret file \"{}\"", path.display()),
            Self::Unusable { path } => write!(
                f,
                "secret file \"{}\": its first line must hold the secret, 1 to {SIZE_BYTES_MAX} bytes",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SecretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Unusable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "open sesame\r\nsecond line\n").unwrap();
        let secret = Secret::read(&path).unwrap();
        assert!(secret.matches(b"open sesame") && !secret.matches(b"open") && !secret.matches(b""));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn an_empty_or_absent_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(matches!(Secret::read(&path), Err(SecretError::Unreadable { .. })));
        std::fs::write(&path, "\n").unwrap();
        let error = Secret::read(&path).unwrap_err();
        assert!(error.to_string().contains("password"), "{error}");
    }
}
