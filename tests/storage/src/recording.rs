//! What a program did to the files below one folder, recorded once with strace(1), and done again step by step to a disk
//! in memory that knows what was synced.
//!
//! The tree's engine works on the file system itself, beside our `Disk`. Its calls are those of everybody: opened,
//! written, synced, renamed. So a recording of them says what a power failure may take at each of them, for this and
//! for every other file of the folder. The method is that of Pillai et al., "All File Systems Are Not Created Equal",
//! OSDI 2014. Only what POSIX promises is taken for durable: bytes by a sync of the file, names by a sync of the folder.
//!
//! A call that changes files in a way that is not known here fails the recording: nothing is left out in silence.

use crate::strace::{SystemCall, parse};
use hotwarm_disk::{Disk, DiskFile, FaultDisk, OpenMode};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What is recorded: all that changes files or says which file a call is about.
const TRACED: &str = "trace=openat,open,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,lseek,\
                      fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,\
                      mkdirat,link,linkat,symlink,symlinkat,truncate,ftruncate,fallocate,copy_file_range,sendfile,\
                      splice,mmap,chdir";

/// One call, as far as it is about the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file is opened, made or emptied; from now on it has that number.
    Open { file: u64, path: String, is_made: bool, is_emptied: bool },
    /// Bytes are written to an open file.
    Write { file: u64, offset: u64, bytes: Vec<u8> },
    /// An open file is synced.
    Sync { file: u64 },
    /// An open file gets another size.
    SetSize { file: u64, size_bytes: u64 },
    /// A folder's names are synced.
    SyncFolder { path: String },
    /// A folder is made.
    MakeFolder { path: String },
    /// A file gets another name.
    Rename { from: String, to: String },
    /// A file's name goes.
    Remove { path: String },
    /// A folder goes.
    RemoveFolder { path: String },
    /// The program says that it has come to another point: a line that it wrote to its notes.
    Note { line: String },
}

impl Event {
    /// Whether a crash before it may leave something else than one before the next.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Note { .. } | Self::Open { is_made: false, is_emptied: false, .. })
    }

    /// For people; the bytes are left out.
    #[must_use]
    pub fn shown(&self, paths: &BTreeMap<u64, String>) -> String {
        let path = |file: &u64| paths.get(file).cloned().unwrap_or_default();
        match self {
            Self::Open { path, .. } => format!("create {path:?}"),
            Self::Write { file, offset, bytes } => {
                format!("write {} bytes at {offset} of {:?}", bytes.len(), path(file))
            }
            Self::Sync { file } => format!("sync {:?}", path(file)),
            Self::SetSize { file, .. } => format!("set the size of {:?}", path(file)),
            Self::SyncFolder { path } => format!("sync folder {path:?}"),
            Self::MakeFolder { path } => format!("create folder {path:?}"),
            Self::Rename { from, to } => format!("rename {from:?} to {to:?}"),
            Self::Remove { path } => format!("remove {path:?}"),
            Self::RemoveFolder { path } => format!("remove folder {path:?}"),
            Self::Note { line } => format!("note {line}"),
        }
    }
}

/// Runs a program under strace and gives what it did below `root`, and its notes in `notes`.
///
/// # Errors
/// strace is not there or may not trace, the program failed, or it did something that is not known here.
pub fn record(command: &Command, root: &Path, notes: &Path, scratch: &Path) -> Result<Vec<Event>, String> {
    let journal = scratch.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "1073741823", "-e", TRACED, "-e", "signal=none", "-o"]).arg(&journal);
    strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    let output = strace.output().map_err(|error| {
        format!("strace: {error}; it records what a node does to its files: install it (Debian: apt install strace)")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the recorded run ended with {}: {}", output.status, said.trim_end()));
    }
    let lines = fs::read(&journal).map_err(|error| format!("{}: {error}", journal.display()))?;
    fs::remove_file(&journal).map_err(|error| format!("{}: {error}", journal.display()))?;
    let mut reader = Reader::new(root, notes);
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(call) = parse(line)?
            && call.result.is_some()
        {
            reader.take(&call).map_err(|why| format!("recording: {why}"))?;
        }
    }
    Ok(reader.events)
}

/// An open descriptor.
#[derive(Clone, Debug)]
struct Descriptor {
    path: PathBuf,
    kind: Kind,
    /// Where the next write goes; `None` where reads may have moved it.
    offset: Option<u64>,
    appends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File(u64),
    Folder,
    Notes,
    Elsewhere,
}

/// Turns system calls into events.
struct Reader<'a> {
    root: &'a Path,
    notes: &'a Path,
    open: BTreeMap<i64, Descriptor>,
    /// Sizes of open files, for writes at the end.
    sizes: BTreeMap<u64, u64>,
    /// Files by their present paths.
    numbers: BTreeMap<PathBuf, u64>,
    next: u64,
    events: Vec<Event>,
}

impl<'a> Reader<'a> {
    fn new(root: &'a Path, notes: &'a Path) -> Self {
        let (open, sizes, numbers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { root, notes, open, sizes, numbers, next: 1, events: Vec::new() }
    }

    fn take(&mut self, call: &SystemCall) -> Result<(), String> {
        match call.name.as_str() {
            "openat" => self.open(call, self.at(call, 0)?, call.text(2)?),
            "open" => self.open(call, PathBuf::from(call.text(0)?), call.text(1)?),
            "creat" => self.open(call, PathBuf::from(call.text(0)?), "O_WRONLY|O_CREAT|O_TRUNC"),
            "close" => {
                self.open.remove(&call.number(0)?);
                Ok(())
            }
            "dup" | "dup2" | "dup3" => self.duplicate(call),
            "fcntl" if call.text(1)?.starts_with("F_DUPFD") => self.duplicate(call),
            "fcntl" | "sync_file_range" => Ok(()),
            "lseek" => self.seek(call),
            "write" => self.write(call, None),
            "pwrite64" => self.write(call, Some(unsigned(call.number(3)?)?)),
            "fsync" | "fdatasync" => self.sync(call),
            "ftruncate" => self.set_size(call),
            "fallocate" if call.text(1)?.contains("FALLOC_FL_KEEP_SIZE") => Ok(()),
            "mkdir" => self.make_folder(PathBuf::from(call.text(0)?)),
            "mkdirat" => self.make_folder(self.at(call, 0)?),
            "rename" => self.rename(PathBuf::from(call.text(0)?), PathBuf::from(call.text(1)?)),
            "renameat" | "renameat2" => self.rename(self.at(call, 0)?, self.at(call, 2)?),
            "unlink" => self.remove(PathBuf::from(call.text(0)?), false),
            "rmdir" => self.remove(PathBuf::from(call.text(0)?), true),
            "unlinkat" => self.remove(self.at(call, 0)?, call.text(2)?.contains("AT_REMOVEDIR")),
            "mmap" => self.map(call),
            _ => self.unknown(call),
        }
    }

    /// The path of two arguments: a folder's descriptor and a path.
    fn at(&self, call: &SystemCall, index: usize) -> Result<PathBuf, String> {
        let path = Path::new(call.text(index + 1)?);
        if path.is_absolute() {
            return Ok(path.to_path_buf());
        }
        if call.text(index)? == "AT_FDCWD" {
            return Ok(path.to_path_buf());
        }
        let number = call.number(index)?;
        let folder = self.open.get(&number).ok_or(format!("{} of an unknown descriptor {number}", call.name))?;
        Ok(folder.path.join(path))
    }

    fn below(&self, path: &Path) -> Option<String> {
        path.strip_prefix(self.root).ok().map(|path| path.to_string_lossy().into_owned())
    }

    fn open(&mut self, call: &SystemCall, path: PathBuf, flags: &str) -> Result<(), String> {
        let descriptor = call.result.unwrap_or_default();
        let has = |flag: &str| flags.split('|').any(|part| part == flag);
        let mut offset = Some(0);
        let kind = if path == self.notes {
            Kind::Notes
        } else if let Some(name) = self.below(&path) {
            let only_reads = !has("O_RDWR") && !has("O_WRONLY");
            if has("O_DIRECTORY") || only_reads && !self.numbers.contains_key(&path) {
                // Or a file from before the recording, which is durable.
                Kind::Folder
            } else {
                let known = self.numbers.get(&path).copied();
                let number = known.unwrap_or(self.next);
                if known.is_none() && !has("O_CREAT") {
                    return Err(format!("{} is written to, but was there before", path.display()));
                }
                self.next += u64::from(known.is_none());
                self.numbers.insert(path.clone(), number);
                let (is_made, is_emptied) = (known.is_none(), known.is_some() && has("O_TRUNC"));
                if is_made || is_emptied {
                    self.sizes.insert(number, 0);
                }
                self.events.push(Event::Open { file: number, path: name, is_made, is_emptied });
                if has("O_RDWR") && !is_made {
                    offset = None;
                }
                Kind::File(number)
            }
        } else {
            Kind::Elsewhere
        };
        self.open.insert(descriptor, Descriptor { path, kind, offset, appends: has("O_APPEND") });
        Ok(())
    }

    fn duplicate(&mut self, call: &SystemCall) -> Result<(), String> {
        let (from, to) = (call.number(0)?, call.result.unwrap_or_default());
        if let Some(descriptor) = self.open.get(&from).cloned() {
            // The two share one offset, which is followed for one only.
            self.open.insert(to, Descriptor { offset: None, ..descriptor });
        }
        Ok(())
    }

    fn descriptor(&mut self, call: &SystemCall) -> Result<Option<&mut Descriptor>, String> {
        let number = call.number(0)?;
        Ok(self.open.get_mut(&number).filter(|descriptor| descriptor.kind != Kind::Elsewhere))
    }

    fn seek(&mut self, call: &SystemCall) -> Result<(), String> {
        let to = call.result.map(unsigned).transpose()?;
        if let Some(descriptor) = self.descriptor(call)? {
            descriptor.offset = to;
        }
        Ok(())
    }

    fn write(&mut self, call: &SystemCall, at: Option<u64>) -> Result<(), String> {
        let written = unsigned(call.result.unwrap_or_default())?;
        let Some(descriptor) = self.descriptor(call)? else { return Ok(()) };
        let bytes = call.bytes(1)?.get(..written as usize).ok_or("a write of more bytes than it shows")?.to_vec();
        let Descriptor { path, kind, offset, appends } = descriptor.clone();
        match kind {
            Kind::Notes => {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                self.events.push(Event::Note { line });
            }
            Kind::File(file) => {
                let end = self.sizes.get(&file).copied().unwrap_or_default();
                let start = if appends { Some(end) } else { at.or(offset) };
                let start = start.ok_or(format!("it is not known where a write to {} goes", path.display()))?;
                self.sizes.insert(file, end.max(start + written));
                self.events.push(Event::Write { file, offset: start, bytes });
                if at.is_none()
                    && let Some(descriptor) = self.descriptor(call)?
                {
                    descriptor.offset = Some(start + written);
                }
            }
            Kind::Folder | Kind::Elsewhere => return Err(format!("{} is written to, and unknown", path.display())),
        }
        Ok(())
    }

    fn sync(&mut self, call: &SystemCall) -> Result<(), String> {
        let Some(descriptor) = self.descriptor(call)? else { return Ok(()) };
        let (kind, path) = (descriptor.kind, descriptor.path.clone());
        match (kind, self.below(&path)) {
            (Kind::File(file), _) => self.events.push(Event::Sync { file }),
            (Kind::Folder, Some(path)) => self.events.push(Event::SyncFolder { path }),
            _ => {}
        }
        Ok(())
    }

    fn set_size(&mut self, call: &SystemCall) -> Result<(), String> {
        let size_bytes = unsigned(call.number(1)?)?;
        let Some(Descriptor { kind: Kind::File(file), .. }) = self.descriptor(call)? else { return Ok(()) };
        let file = *file;
        self.sizes.insert(file, size_bytes);
        self.events.push(Event::SetSize { file, size_bytes });
        Ok(())
    }

    fn make_folder(&mut self, path: PathBuf) -> Result<(), String> {
        if let Some(path) = self.below(&path) {
            self.events.push(Event::MakeFolder { path });
        }
        Ok(())
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) -> Result<(), String> {
        match (self.below(&from), self.below(&to)) {
            (Some(old), Some(new)) => {
                if let Some(number) = self.numbers.remove(&from) {
                    self.numbers.insert(to, number);
                }
                self.events.push(Event::Rename { from: old, to: new });
                Ok(())
            }
            (None, None) => Ok(()),
            _ => Err(format!("{} is moved into the folder or out of it", from.display())),
        }
    }

    fn remove(&mut self, path: PathBuf, is_folder: bool) -> Result<(), String> {
        let Some(name) = self.below(&path) else { return Ok(()) };
        self.numbers.remove(&path);
        self.events.push(if is_folder { Event::RemoveFolder { path: name } } else { Event::Remove { path: name } });
        Ok(())
    }

    /// Pages that are mapped and written to leave no trace.
    fn map(&self, call: &SystemCall) -> Result<(), String> {
        let writes = call.text(2)?.contains("PROT_WRITE") && call.text(3)?.contains("MAP_SHARED");
        let file = call.number(4).ok().and_then(|number| self.open.get(&number));
        match file {
            Some(file) if writes && file.kind != Kind::Elsewhere => {
                Err(format!("{} is mapped for writing", file.path.display()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A call that is not understood may not be about the folder.
    fn unknown(&self, call: &SystemCall) -> Result<(), String> {
        let root = self.root.to_string_lossy();
        let names_it = (0..call.arguments.len()).any(|index| call.text(index).is_ok_and(|text| text.contains(&*root)));
        let holds = |index| call.number(index).ok().and_then(|number| self.open.get(&number));
        let touches = (0..call.arguments.len().min(3)).filter_map(holds).any(|file| file.kind != Kind::Elsewhere);
        if names_it || touches {
            return Err(format!("{} is used on the folder, and not understood", call.name));
        }
        Ok(())
    }
}

fn unsigned(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("{number} is negative"))
}

/// A disk in memory to which events are done.
#[derive(Debug)]
pub struct Replay {
    disk: FaultDisk,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    paths: BTreeMap<u64, String>,
}

impl Replay {
    /// On a disk that holds what there was before.
    #[must_use]
    pub fn new(disk: FaultDisk) -> Self {
        Self { disk, files: BTreeMap::new(), paths: BTreeMap::new() }
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &FaultDisk {
        &self.disk
    }

    /// Under which paths the files were opened last.
    #[must_use]
    pub fn paths(&self) -> &BTreeMap<u64, String> {
        &self.paths
    }

    /// Does what the program did.
    ///
    /// # Errors
    /// It cannot be done: the recording is wrong.
    pub fn apply(&mut self, event: &Event) -> Result<(), String> {
        let done = match event {
            Event::Open { file, path, is_made, is_emptied } => self.open(*file, path, *is_made, *is_emptied),
            Event::Write { file, offset, bytes } => self.file(*file)?.write_at(bytes, *offset),
            Event::Sync { file } => self.file(*file)?.sync_data(),
            Event::SetSize { file, size_bytes } => self.file(*file)?.set_size(*size_bytes),
            Event::SyncFolder { path } => match self.disk.sync_dir(path) {
                // A file that was only read before, such as one of before the recording.
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(()),
                other => other,
            },
            Event::MakeFolder { path } => self.disk.create_dir(path),
            Event::Rename { from, to } => self.disk.rename(from, to),
            Event::Remove { path } => self.disk.remove(path),
            Event::RemoveFolder { path } => self.disk.remove_dir(path),
            Event::Note { .. } => Ok(()),
        };
        done.map_err(|error| format!("{}: {error}", event.shown(&self.paths)))
    }

    fn open(&mut self, file: u64, path: &str, is_made: bool, is_emptied: bool) -> std::io::Result<()> {
        let mode = if is_made { OpenMode::New } else { OpenMode::Existing };
        let handle = self.disk.open(path, mode)?;
        if is_emptied {
            handle.set_size(0)?;
        }
        self.files.insert(file, handle);
        self.paths.insert(file, path.to_owned());
        Ok(())
    }

    fn file(&self, file: u64) -> Result<&Arc<dyn DiskFile>, String> {
        self.files.get(&file).ok_or(format!("file {file} was never opened"))
    }
}

/// Writes what a disk in memory holds to an empty folder. The file `kept`, if it is there, becomes one that lies at
/// `kept_as` already: it stays the same file, as a folder's record demands.
///
/// # Errors
/// What the system says.
pub fn export(disk: &FaultDisk, to: &Path, kept: &str, kept_as: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    fs::create_dir_all(to)?;
    for folder in disk.folders() {
        fs::create_dir(to.join(folder))?;
    }
    for (path, _) in disk.files() {
        let target = to.join(&path);
        let file = if path == kept {
            fs::hard_link(kept_as, &target)?;
            fs::File::options().write(true).truncate(true).open(&target)?
        } else {
            fs::File::create(&target)?
        };
        let (size_bytes, pages) = disk.pages(&path)?;
        for (offset, page) in pages {
            file.write_all_at(&page[..], offset)?;
        }
        // Whole pages were written; this also makes the holes.
        file.set_len(size_bytes)?;
    }
    Ok(())
}
