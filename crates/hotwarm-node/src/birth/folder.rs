//! Opening a data folder: whose it is, or, once, its birth by the ticket.
//!
//! | `data_dir/identity` | `tls_dir/birth` | `tls_dir/birth.used` | what happens |
//! | --- | --- | --- | --- |
//! | yes | no | any | the folder is opened |
//! | yes | for this folder | any | the birth was interrupted before the ticket was put away: it is completed |
//! | yes | for another folder | any | refused: which of the two is meant is the operator's to say |
//! | no | yes | any | the folder must be empty; the identity is written, then the ticket is put away |
//! | no | no | yes | refused: the folder was lost; the node must be replaced (R4) |
//! | no | no | no | refused: nothing says that this node exists |
//!
//! The identity is durable before the ticket is put away, and a node starts only after both. Between the two nothing
//! was promised to anybody, so it does no harm if a crash and a wiped volume let the ticket be used again.

use super::ticket::{Birth, TicketError};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The used ticket in a data folder: whose folder it is.
pub const IDENTITY_FILE: &str = "identity";
/// The ticket, in a node's TLS folder.
pub const TICKET_FILE: &str = "birth";
/// The ticket once it has been used.
pub const USED_TICKET_FILE: &str = "birth.used";

const TEMPORARY_FILE: &str = "identity.new";

/// Opens a data folder, which is born by the ticket in `tls_dir` if that is what it waits for. On return the identity
/// is durable and the ticket put away.
///
/// # Errors
/// What keeps the folder from being opened, and what to do. Nothing was changed, save that an interrupted birth may
/// have been carried one step further.
pub fn open_folder(tls_dir: &Path, data_dir: &Path) -> Result<Birth, BirthError> {
    let ticket_path = tls_dir.join(TICKET_FILE);
    let ticket = read(&ticket_path)?;
    let identity_path = data_dir.join(IDENTITY_FILE);
    match (read(&identity_path)?, ticket) {
        (Some(identity), None) => Ok(identity),
        (Some(identity), Some(ticket)) if identity.folder == ticket.folder => {
            put_away(tls_dir)?;
            Ok(identity)
        }
        (Some(_), Some(_)) => Err(BirthError::TwoFolders { identity: identity_path, ticket: ticket_path }),
        (None, Some(_)) => Birth::consume(tls_dir, data_dir),
        (None, None) if tls_dir.join(USED_TICKET_FILE).exists() => {
            Err(BirthError::Lost { data_dir: data_dir.to_owned(), ticket: tls_dir.join(USED_TICKET_FILE) })
        }
        (None, None) => Err(BirthError::NoTicket { data_dir: data_dir.to_owned(), ticket: ticket_path }),
    }
}

impl Birth {
    /// Uses the ticket in `tls_dir`: makes `data_dir` if it is not there, writes its identity, and puts the ticket away.
    ///
    /// # Errors
    /// When there is no ticket, the folder holds anything, or a file cannot be written.
    pub fn consume(tls_dir: &Path, data_dir: &Path) -> Result<Self, BirthError> {
        let path = tls_dir.join(TICKET_FILE);
        let ticket =
            read(&path)?.ok_or_else(|| BirthError::NoTicket { data_dir: data_dir.to_owned(), ticket: path.clone() })?;
        make_folder(data_dir).map_err(|error| BirthError::Write { path: data_dir.to_owned(), error })?;
        if let Some(found) = occupant(data_dir)? {
            return Err(BirthError::NotEmpty { data_dir: data_dir.to_owned(), found });
        }
        ticket.store(data_dir)?;
        put_away(tls_dir)?;
        Ok(ticket)
    }

    /// Makes this the identity of a data folder, durably, in the place of the one it has. Only a birth and
    /// `hotwarm recover` may do it.
    ///
    /// # Errors
    /// When it cannot be written; the folder then has the identity it had.
    pub fn store(&self, data_dir: &Path) -> Result<(), BirthError> {
        let (temporary, path) = (data_dir.join(TEMPORARY_FILE), data_dir.join(IDENTITY_FILE));
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(self.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(data_dir)?.sync_all()
        };
        write().map_err(|error| BirthError::Write { path: path.clone(), error })
    }
}

/// Makes a folder, and those that it lies in, durably: nothing that is synced in it outlives its name. One that is there
/// already may have been made by a birth that was interrupted here; its name is synced, too, where that is allowed.
fn make_folder(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return match File::open(parent) {
            Ok(parent) => parent.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(error),
        };
    }
    if !parent.exists() {
        make_folder(parent)?;
    }
    fs::create_dir(folder)?;
    File::open(parent)?.sync_all()
}

/// Something in the folder that a birth would have to share it with.
fn occupant(data_dir: &Path) -> Result<Option<String>, BirthError> {
    let unreadable = |error| BirthError::Read { path: data_dir.to_owned(), error };
    for entry in fs::read_dir(data_dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        // An ext4 file system that is mounted as the folder has one of its own.
        if name != "lost+found" && name != TEMPORARY_FILE {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn put_away(tls_dir: &Path) -> Result<(), BirthError> {
    let path = tls_dir.join(TICKET_FILE);
    let rename = || -> io::Result<()> {
        fs::rename(&path, tls_dir.join(USED_TICKET_FILE))?;
        File::open(tls_dir)?.sync_all()
    };
    rename().map_err(|error| BirthError::PutAway { path: path.clone(), error })
}

fn read(path: &Path) -> Result<Option<Birth>, BirthError> {
    let unreadable = |error| BirthError::Read { path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    let size_bytes_max = Birth::SIZE_BYTES_MAX as u64;
    file.take(size_bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    // What is no text is damage, as its checksum says.
    Birth::parse(&String::from_utf8_lossy(&bytes))
        .map(Some)
        .map_err(|error| BirthError::Ticket { path: path.to_owned(), error })
}

/// Why a data folder is not opened.
#[derive(Debug)]
pub enum BirthError {
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The used ticket cannot be renamed.
    PutAway {
        /// The ticket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A ticket or an identity is damaged.
    Ticket {
        /// The file.
        path: PathBuf,
        /// How.
        error: TicketError,
    },
    /// There is neither an identity nor a ticket.
    NoTicket {
        /// The data folder.
        data_dir: PathBuf,
        /// Where a ticket would be.
        ticket: PathBuf,
    },
    /// The ticket was used, but its folder is not here.
    Lost {
        /// The data folder.
        data_dir: PathBuf,
        /// The used ticket.
        ticket: PathBuf,
    },
    /// The ticket is not for the folder that is here.
    TwoFolders {
        /// The folder's identity.
        identity: PathBuf,
        /// The ticket.
        ticket: PathBuf,
    },
    /// A folder that is to be born holds something.
    NotEmpty {
        /// The data folder.
        data_dir: PathBuf,
        /// What was found first.
        found: String,
    },
}

impl fmt::Display for BirthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(f, "read {path:?}"),
            Self::Write { path, .. } => write!(f, "write {path:?}"),
            Self::PutAway { path, .. } => write!(
                f,
                "rename {path:?} to {USED_TICKET_FILE:?}: a ticket that stays usable could make a lost folder anew; \
                 make its folder writable for the first start"
            ),
            Self::Ticket { path, error } if path.ends_with(IDENTITY_FILE) => write!(
                f,
                "{path:?} is refused: {error}; if no good copy of it is left, let this node be replaced by an empty one \
                 (\"hotwarm node replace\")"
            ),
            Self::Ticket { path, error } => write!(f, "{path:?} is refused: {error}"),
            Self::NoTicket { data_dir, ticket } => write!(
                f,
                "data folder {data_dir:?} has no identity and there is no ticket {ticket:?}: \
                 check data_dir and tls_dir, or make the node with \"hotwarm init\" or \"hotwarm node add\""
            ),
            Self::Lost { data_dir, ticket } => write!(
                f,
                "data folder {data_dir:?} is empty, but its ticket {ticket:?} was used: the folder was lost, moved or \
                 not mounted; bring it back, or run \"hotwarm node replace\" on a living node and start with the new \
                 ticket. Nothing was written"
            ),
            Self::TwoFolders { identity, ticket } => write!(
                f,
                "{identity:?} and the ticket {ticket:?} are for different data folders: to go on with the data, remove \
                 the ticket; to start anew as the ticket says, move the data folder away"
            ),
            Self::NotEmpty { data_dir, found } => write!(
                f,
                "data folder {data_dir:?} has no identity, but holds {found:?}: a new node starts in an empty folder; \
                 move what is there away, or point data_dir elsewhere"
            ),
        }
    }
}

impl std::error::Error for BirthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } | Self::Write { error, .. } | Self::PutAway { error, .. } => Some(error),
            Self::Ticket { error, .. } => std::error::Error::source(error),
            Self::NoTicket { .. } | Self::Lost { .. } | Self::TwoFolders { .. } | Self::NotEmpty { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::birth::plan::tests::plan;

    /// A group's folders as `hotwarm init` leaves them, and the place for the data of node a.
    fn group() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        plan().write(&root.path().join("out")).unwrap();
        let (tls_dir, data_dir) = (root.path().join("out/a"), root.path().join("data"));
        (root, tls_dir, data_dir)
    }

    #[test]
    fn a_ticket_makes_its_folder_once() {
        let (_root, tls_dir, data_dir) = group();
        let born = open_folder(&tls_dir, &data_dir).unwrap();
        assert_eq!((born.name.as_str(), born.founding_state().is_some()), ("a", true));
        assert!(!tls_dir.join(TICKET_FILE).exists() && tls_dir.join(USED_TICKET_FILE).exists());
        assert_eq!(open_folder(&tls_dir, &data_dir).unwrap(), born);
    }

    #[test]
    fn a_wiped_folder_is_not_born_again() {
        let (_root, tls_dir, data_dir) = group();
        open_folder(&tls_dir, &data_dir).unwrap();
        fs::remove_dir_all(&data_dir).unwrap();
        let error = open_folder(&tls_dir, &data_dir).unwrap_err();
        assert!(matches!(error, BirthError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("hotwarm node replace"));
        assert!(!data_dir.exists(), "nothing was written");
    }

    #[test]
    fn a_birth_that_was_interrupted_is_completed() {
        let (_root, tls_dir, data_dir) = group();
        let ticket = read(&tls_dir.join(TICKET_FILE)).unwrap().unwrap();
        fs::create_dir(&data_dir).unwrap();
        ticket.store(&data_dir).unwrap();
        assert_eq!(open_folder(&tls_dir, &data_dir).unwrap(), ticket);
        assert!(!tls_dir.join(TICKET_FILE).exists());
    }

    #[test]
    fn a_folder_that_holds_something_else_is_not_touched() {
        let (_root, tls_dir, data_dir) = group();
        fs::create_dir(&data_dir).unwrap();
        fs::write(data_dir.join("precious"), b"1").unwrap();
        let error = open_folder(&tls_dir, &data_dir).unwrap_err();
        assert!(matches!(&error, BirthError::NotEmpty { found, .. } if found == "precious"), "{error}");
        assert!(tls_dir.join(TICKET_FILE).exists());
    }

    #[test]
    fn a_ticket_for_another_folder_is_a_question_to_the_operator() {
        let (root, tls_dir, data_dir) = group();
        open_folder(&tls_dir, &data_dir).unwrap();
        fs::copy(root.path().join("out/b").join(TICKET_FILE), tls_dir.join(TICKET_FILE)).unwrap();
        let error = open_folder(&tls_dir, &data_dir).unwrap_err();
        assert!(matches!(error, BirthError::TwoFolders { .. }), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let (_root, tls_dir, data_dir) = group();
        open_folder(&tls_dir, &data_dir).unwrap();
        let path = data_dir.join(IDENTITY_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("name a", "name b", 1)).unwrap();
        let error = open_folder(&tls_dir, &data_dir).unwrap_err().to_string();
        assert!(error.contains("identity") && error.contains("damaged"), "{error}");
    }

    #[test]
    fn a_ticket_that_cannot_be_put_away_does_not_start_a_node() {
        let (_root, tls_dir, data_dir) = group();
        // A folder of that name cannot be replaced by a file, not even by root.
        fs::create_dir_all(tls_dir.join(USED_TICKET_FILE).join("x")).unwrap();
        let error = open_folder(&tls_dir, &data_dir).unwrap_err();
        assert!(matches!(error, BirthError::PutAway { .. }), "{error}");
        let again = open_folder(&tls_dir, &data_dir).unwrap_err();
        assert!(matches!(again, BirthError::PutAway { .. }), "it insists at each start: {again}");
    }
}
