//! The tree on `lsm-tree`, a log-structured merge tree without a log of its own: ours is the log.
//!
//! How it works, and what the engine demands. The engine numbers writes and changes of its file list from one counter,
//! so its numbers are not positions: the position is a row ([`super::APPLIED_KEY`]) written with the number of its
//! batch. A flush rotates the memory buffer between two batches, never within one, and registers all buffers that
//! wait at once: so a crash leaves whole batches, up to the position in the row. Readers of the newest state ask at
//! the highest number, which the engine resolves to its newest file list. A pin keeps the file list and buffers of
//! its moment itself, so nothing has to be held back for it: flush and compaction may always drop versions that newer
//! ones hide.
//!
//! Files are checksummed and synced by the engine; a block whose checksum is wrong is an error, never an answer
//! (INV-9). Its list of files it checksums and does not check: that is done here before it is opened, since with a
//! damaged list it would read too little, remove files as left over, or panic. What it does not do: threads. Whoever feeds also calls `flush` and `maintain`.
//!
//! Source: lsm-tree 3.1.10, pinned exactly; rerun `differential` before any other version is taken in.

use super::{APPLIED_KEY, Batch, Pin, Rows, Tree, TreeError, check_sorted, decode_applied};
use crate::sync::lock;
use bytes::Bytes;
use hotwarm_types::Lsn;
use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, Guard, SeqNo, SequenceNumberCounter, Slice};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);
type RowIter = Box<dyn Iterator<Item = lsm_tree::Result<(Slice, Slice)>>>;
/// Reads from the file list and buffers of one moment, without a lock of the engine.
type Moment = Arc<dyn Fn(Range) -> RowIter + Send + Sync>;

/// Sees every number that the engine ever gives.
const NEWEST: SeqNo = SeqNo::MAX;

/// A tree in a folder of its own.
pub struct LsmTree {
    engine: AnyTree,
    seqno: SequenceNumberCounter,
    /// The position applied last. Held while a batch goes in and while the memory buffer is rotated, so that a rotation
    /// never parts a batch.
    applied: Mutex<Lsn>,
    /// Held during a flush or a compaction's choice of files, so that there is one at a time.
    flushing: Mutex<()>,
    /// What readers use while a flush or a compaction runs: the engine syncs its new file list with readers locked out,
    /// which on a busy disk takes long enough for clients to notice.
    meanwhile: Mutex<Option<Moment>>,
    durable: AtomicU64,
    /// A write has failed: no further one is taken (INV-9).
    failed: AtomicBool,
}

impl std::fmt::Debug for LsmTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmTree").field("applied", &self.applied()).field("durable", &self.durable()).finish()
    }
}

fn engine_error(during: &'static str) -> impl Fn(lsm_tree::Error) -> TreeError {
    move |error| TreeError::Engine { during, error: error.to_string() }
}

/// Checks the engine's list of files against the checksum that the engine wrote beside it.
///
/// `current` holds the number of the list that counts (8 bytes), the XXH3-128 of that file (16) and the kind of checksum
/// (1: zero), little-endian. Without it there is no tree yet, or it was lost: then there are lists past the first one, which
/// alone is written before it, or tables. The engine would begin a new tree among them.
fn check_file_list(folder: &Path) -> Result<(), TreeError> {
    let broken = |file: &Path, why: &str| TreeError::Engine {
        during: "open the tree",
        error: format!("{}: {why}", file.display()),
    };
    let read = |file: &Path| std::fs::read(file).map_err(|error| (error.kind(), broken(file, &error.to_string())));
    let current = folder.join("current");
    let bytes = match read(&current) {
        Ok(bytes) => bytes,
        Err((io::ErrorKind::NotFound, error)) => {
            return match has_more_than_a_begin(folder) {
                Ok(false) => Ok(()),
                Ok(true) => Err(broken(&current, "it is missing, and other files of the tree are there")),
                Err(_) => Err(error),
            };
        }
        Err((_, error)) => return Err(error),
    };
    let Some((number, &[ref checksum @ .., kind])) =
        bytes.split_first_chunk::<8>().and_then(|(number, rest)| Some((number, <&[u8; 17]>::try_from(rest).ok()?)))
    else {
        return Err(broken(&current, "it is damaged: its length is wrong"));
    };
    if kind != 0 {
        return Err(broken(&current, "it is damaged, or of another version"));
    }
    let list = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    let found = xxhash_rust::xxh3::xxh3_128(&read(&list).map_err(|(_, error)| error)?);
    if found.to_le_bytes() != *checksum {
        return Err(broken(&list, "it or \"current\" beside it is damaged: its checksum does not match"));
    }
    Ok(())
}

/// Whether a folder without `current` has files that a tree gets only after it.
fn has_more_than_a_begin(folder: &Path) -> io::Result<bool> {
    for name in names_in(folder)? {
        let list = name.strip_prefix('v').and_then(|number| number.parse::<u64>().ok());
        if list.is_some_and(|number| number > 0) {
            return Ok(true);
        }
    }
    Ok(!names_in(&folder.join("tables"))?.is_empty())
}

/// Checks that no table claims a longer list of its own parts than it has room for: the engine makes room for as many as it
/// claims before it compares the list's checksum, and a flipped bit can claim more than there is memory.
///
/// A table ends with `SFA!`, two bytes, the list's checksum (16 bytes), where the list begins (8) and how long it is (8). The
/// list is `TOC!`, the count (4) and the parts, little-endian. All else the engine finds by its checksums. A table that is
/// not whole is none of the tree's, and left to the engine to remove.
fn check_tables(folder: &Path) -> Result<(), TreeError> {
    let tables = folder.join("tables");
    let unreadable = |file: &Path| {
        let file = file.display().to_string();
        move |error: io::Error| TreeError::Engine { during: "open the tree", error: format!("{file}: {error}") }
    };
    for name in names_in(&tables).map_err(unreadable(&tables))? {
        let path = tables.join(name);
        if claims_too_much(&path).map_err(unreadable(&path))? {
            let error = format!("{}: it is damaged: it claims more parts than it has room for", path.display());
            return Err(TreeError::Engine { during: "open the tree", error });
        }
    }
    Ok(())
}

/// See [`check_tables`].
fn claims_too_much(table: &Path) -> io::Result<bool> {
    const TRAILER_SIZE_BYTES: usize = 38;
    const LIST_BEGINS_AT: usize = 22;
    const LIST_HEAD_SIZE_BYTES: usize = 8;
    let file = std::fs::File::open(table)?;
    let Some(end) = file.metadata()?.len().checked_sub(TRAILER_SIZE_BYTES as u64) else { return Ok(false) };
    let mut trailer = [0; TRAILER_SIZE_BYTES];
    file.read_exact_at(&mut trailer, end)?;
    let Some(start) = trailer[LIST_BEGINS_AT..].first_chunk().copied().map(u64::from_le_bytes) else {
        return Ok(false);
    };
    let Some(room) = end.checked_sub(start).and_then(|size| size.checked_sub(LIST_HEAD_SIZE_BYTES as u64)) else {
        return Ok(false);
    };
    let mut head = [0; LIST_HEAD_SIZE_BYTES];
    file.read_exact_at(&mut head, start)?;
    let count = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    Ok(trailer.starts_with(b"SFA!") && head.starts_with(b"TOC!") && u64::from(count) > room)
}

/// Makes a folder's own name durable: the engine makes the folder and syncs only what is in it.
fn sync_name(folder: &Path) -> Result<(), TreeError> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| TreeError::Engine {
        during: "open the tree",
        error: format!("sync {}: {error}", parent.display()),
    })
}

/// The names of what is in a folder; none if it is not there.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl LsmTree {
    /// Opens the tree in `folder`, or makes it there, with `cache_size_bytes` of memory for blocks read from disk.
    ///
    /// # Errors
    /// [`TreeError::Engine`] if files are missing, broken or of another version.
    pub fn open(folder: &Path, cache_size_bytes: u64) -> Result<Self, TreeError> {
        check_file_list(folder)?;
        check_tables(folder)?;
        let seqno = SequenceNumberCounter::default();
        let visible = SequenceNumberCounter::default();
        let engine = Config::new(folder, seqno.clone(), visible.clone())
            .use_cache(Arc::new(Cache::with_capacity_bytes(cache_size_bytes)))
            .open()
            .map_err(engine_error("open the tree"))?;
        sync_name(folder)?;
        let next = engine.get_highest_seqno().map_or(0, |highest| highest + 1);
        seqno.set(next);
        visible.set(next);
        let row = engine.get(APPLIED_KEY, NEWEST).map_err(engine_error("read the applied position"))?;
        let applied = decode_applied(row.as_deref())?;
        Ok(Self {
            engine,
            seqno,
            applied: Mutex::new(applied),
            flushing: Mutex::new(()),
            meanwhile: Mutex::new(None),
            durable: AtomicU64::new(applied.0),
            failed: AtomicBool::new(false),
        })
    }

    /// The file list and buffers of now. Writes that go into the present buffer later are seen too.
    fn moment(&self, seqno: SeqNo) -> Result<Moment, TreeError> {
        let AnyTree::Standard(tree) = &self.engine else {
            return Err(TreeError::Engine { during: "pin the tree", error: "its values are kept apart".into() });
        };
        let version = tree.get_version_history_lock().latest_version();
        Ok(Arc::new(move |range: Range| -> RowIter {
            let rows = lsm_tree::Tree::create_internal_range(version.clone(), &range, seqno, None);
            Box::new(rows.map(|row| row.map(|row| (row.key.user_key, row.value))))
        }))
    }

    /// Does what locks readers out of the engine, and lets them read from the present moment meanwhile. Nothing is
    /// applied in the meantime that they would miss: a rotation has just ended or none is made.
    fn beside_readers<T>(&self, work: impl FnOnce() -> Result<T, TreeError>) -> Result<T, TreeError> {
        *lock(&self.meanwhile) = Some(self.moment(NEWEST)?);
        let result = work();
        *lock(&self.meanwhile) = None;
        result
    }

    fn check_writable(&self) -> Result<(), TreeError> {
        if self.failed.load(Ordering::Acquire) { Err(TreeError::Failed) } else { Ok(()) }
    }

    /// Remembers that a write failed, and tells it.
    fn fail(&self, during: &'static str) -> impl Fn(lsm_tree::Error) -> TreeError + '_ {
        move |error| {
            self.failed.store(true, Ordering::Release);
            engine_error(during)(error)
        }
    }
}

impl Tree for LsmTree {
    fn apply(&self, at: Lsn, batch: &Batch) -> Result<(), TreeError> {
        self.check_writable()?;
        let mut applied = lock(&self.applied);
        if at <= *applied {
            return Err(TreeError::OutOfOrder { applied: *applied, at });
        }
        let seqno = self.seqno.next();
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.engine.insert(key.clone(), value.clone(), seqno),
                None => self.engine.remove(key.clone(), seqno),
            };
        }
        self.engine.insert(APPLIED_KEY, at.0.to_le_bytes(), seqno);
        *applied = at;
        Ok(())
    }

    fn applied(&self) -> Lsn {
        *lock(&self.applied)
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        let meanwhile = lock(&self.meanwhile).clone();
        if let Some(moment) = meanwhile {
            return one(&*moment, key);
        }
        let row = self.engine.get(key, NEWEST).map_err(engine_error("read a row"))?;
        Ok(row.map(Bytes::from))
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        let Some(range) = range(from, until) else { return Ok(Rows::new()) };
        let meanwhile = lock(&self.meanwhile).clone();
        if let Some(moment) = meanwhile {
            return collect(moment(range), count);
        }
        let rows = self.engine.range(range, NEWEST, None).map(Guard::into_inner);
        collect(rows, count)
    }

    fn pin(&self) -> Result<Box<dyn Pin>, TreeError> {
        // With the position held no batch is under way: every number below the next one belongs to a whole batch.
        let applied = lock(&self.applied);
        Ok(Box::new(LsmPin { at: *applied, rows: self.moment(self.seqno.get())? }))
    }

    fn flush(&self) -> Result<Lsn, TreeError> {
        self.check_writable()?;
        let _one = lock(&self.flushing);
        let at = {
            let applied = lock(&self.applied);
            self.engine.rotate_memtable();
            *applied
        };
        self.beside_readers(|| {
            let guard = self.engine.get_flush_lock();
            self.engine.flush(&guard, self.seqno.get()).map_err(self.fail("flush the tree"))
        })?;
        self.durable.store(at.0, Ordering::Release);
        Ok(at)
    }

    fn load(&self, rows: &Rows) -> Result<(), TreeError> {
        self.check_writable()?;
        check_sorted(rows)?;
        let _one = lock(&self.flushing);
        let _applied = lock(&self.applied);
        let mut ingestion = self.engine.ingestion().map_err(self.fail("load rows"))?;
        for (key, value) in rows {
            ingestion.write(key.clone(), value.clone()).map_err(self.fail("load rows"))?;
        }
        ingestion.finish().map_err(self.fail("load rows"))
    }

    fn maintain(&self) -> Result<(), TreeError> {
        self.check_writable()?;
        let strategy = Arc::new(Leveled::default());
        let _one = lock(&self.flushing);
        self.beside_readers(|| self.engine.compact(strategy, self.seqno.get()).map_err(self.fail("compact the tree")))?;
        Ok(())
    }

    fn unflushed_size_bytes(&self) -> u64 {
        self.engine.active_memtable().size()
    }

    fn size_bytes(&self) -> u64 {
        self.engine.disk_space() + self.unflushed_size_bytes()
    }
}

struct LsmPin {
    at: Lsn,
    rows: Moment,
}

impl Pin for LsmPin {
    fn at(&self) -> Lsn {
        self.at
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        one(&*self.rows, key)
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        let Some(range) = range(from, until) else { return Ok(Rows::new()) };
        collect((self.rows)(range), count)
    }
}

/// The row of one key.
fn one(rows: &(dyn Fn(Range) -> RowIter + Send + Sync), key: &[u8]) -> Result<Option<Bytes>, TreeError> {
    let only = (Bound::Included(key.to_vec()), Bound::Included(key.to_vec()));
    Ok(collect(rows(only), 1)?.pop().map(|(_, value)| value))
}

/// The bounds of a scan; `None` if nothing can lie between them.
fn range(from: Bound<&[u8]>, until: Option<&[u8]>) -> Option<Range> {
    if let (Bound::Included(low) | Bound::Excluded(low), Some(high)) = (from, until)
        && low >= high
    {
        return None;
    }
    Some((from.map(<[u8]>::to_vec), until.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()))))
}

fn collect(rows: impl Iterator<Item = lsm_tree::Result<(Slice, Slice)>>, count: usize) -> Result<Rows, TreeError> {
    rows.take(count)
        .map(|row| row.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).map_err(engine_error("scan rows")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine would take most of these for good, and panic on one.
    #[test]
    fn a_list_of_files_with_any_byte_flipped_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let tree = LsmTree::open(folder.path(), 1 << 20).unwrap();
        let mut batch = Batch::default();
        batch.put(b"key".as_slice(), b"value".as_slice());
        tree.apply(Lsn(1), &batch).unwrap();
        assert_eq!(tree.flush().unwrap(), Lsn(1));
        drop(tree);
        let list = format!("v{}", std::fs::read(folder.path().join("current")).unwrap()[0]);
        for name in ["current", &list] {
            let path = folder.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                std::fs::write(&path, flipped).unwrap();
                let error = check_file_list(folder.path()).unwrap_err().to_string();
                assert!(error.contains("current") || error.contains("/v"), "byte {at} of {name}: {error}");
            }
            std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
            check_file_list(folder.path()).unwrap_err();
            std::fs::write(&path, whole).unwrap();
        }
        assert_eq!(LsmTree::open(folder.path(), 1 << 20).unwrap().get(b"key").unwrap().unwrap(), "value");
    }

    /// The engine would ask for up to 170 GB of memory for one of these, and the process would end.
    #[test]
    fn a_table_with_any_bit_of_its_end_flipped_is_refused_or_read_right() {
        let folder = tempfile::tempdir().unwrap();
        let tree = LsmTree::open(folder.path(), 1 << 20).unwrap();
        let mut batch = Batch::default();
        batch.put(b"key".as_slice(), b"value".as_slice());
        tree.apply(Lsn(1), &batch).unwrap();
        tree.flush().unwrap();
        drop(tree);
        let name = names_in(&folder.path().join("tables")).unwrap().remove(0);
        let path = folder.path().join("tables").join(name);
        let whole = std::fs::read(&path).unwrap();
        let list = whole.windows(4).rposition(|bytes| bytes == b"TOC!").unwrap();
        let mut too_much = 0;
        for bit in list * 8..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            match LsmTree::open(folder.path(), 1 << 20) {
                Ok(tree) => assert_eq!(tree.get(b"key").unwrap().unwrap(), "value", "bit {bit}"),
                Err(error) => too_much += u32::from(error.to_string().contains("claims more parts")),
            }
        }
        assert!(too_much >= 20, "{too_much}");
    }

    #[test]
    fn a_tree_whose_current_list_is_not_named_any_more_is_refused_and_one_that_was_only_begun_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("current");
        drop(LsmTree::open(folder.path(), 1 << 20).unwrap());
        // As a crash leaves it while it is made.
        std::fs::remove_file(&current).unwrap();
        let tree = LsmTree::open(folder.path(), 1 << 20).unwrap();
        let mut batch = Batch::default();
        batch.put(b"key".as_slice(), b"value".as_slice());
        tree.apply(Lsn(1), &batch).unwrap();
        tree.flush().unwrap();
        drop(tree);
        let aside = folder.path().join("aside");
        std::fs::rename(&current, &aside).unwrap();
        let error = LsmTree::open(folder.path(), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("current"), "{error}");
        std::fs::rename(&aside, &current).unwrap();
        let tree = LsmTree::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(tree.get(b"key").unwrap().unwrap(), "value", "nothing was touched");
    }
}
