//! A full copy of committed state, in chunks, while writes go on.
//!
//! The sender pins its tree and sends the rows of the pin in order: epochs, keys of the visible generation, the
//! position, sessions and their replies, the index by expiry. All of that is one moment, the end of one block (R32).
//! The stream of rows is cut into chunks of at most [`CHUNK_SIZE_BYTES_MAX`], numbered from 0; a row may lie in
//! several. Any chunk that was sent once can be sent again while the pin lives, so a copy that broke off goes on where
//! it broke: [`SnapshotMark`]s of both sides are compared first, and the receiver's writer can be made again from what
//! [`SnapshotWriter::take_record`] gave it.
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 4 | `HWSC` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 1 | 1 in the last chunk, else 0 |
//! | 6 | 2 | 0 |
//! | 8 | 4 | group |
//! | 12 | 4 | size of the body |
//! | 16 | 8 | epoch of the last entry included |
//! | 24 | 8 | LSN of the last entry included |
//! | 32 | 8 | number of the chunk |
//! | 40 | body | part of the rows: each is size of key, size of value (LEB128), key, value |
//! | end | 4 | CRC-32C of all before |
//!
//! Fixed numbers are little-endian. The receiver fills a tree in a folder of its own. The row with the position goes
//! in last, in the one batch that makes the copy a state: a tree that was not filled to the end is refused when it is
//! opened.

use crate::codec::{Reader, put_blob, put_varint};
use crate::key::{self, Meta};
use crate::limits::{CHUNK_SIZE_BYTES_MAX, KEY_SIZE_BYTES_MAX, LOAD_SIZE_BYTES, VALUE_SIZE_BYTES_MAX};
use crate::tree::{Batch, Pin, Rows, Tree, TreeError};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc, checksum};
use hotwarm_types::{EntryId, Epoch, GroupId, Lsn};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"HWSC";
const FORMAT_VERSION: u8 = 1;
const HEADER_SIZE_BYTES: usize = 40;
const CRC_SIZE_BYTES: usize = 4;
const BODY_SIZE_BYTES_MAX: usize = CHUNK_SIZE_BYTES_MAX - HEADER_SIZE_BYTES - CRC_SIZE_BYTES;

/// Longest key of a row beside the user's key in it, and longest value beside the user's value.
const ROW_OVERHEAD_BYTES_MAX: usize = 64;

/// Longest part of a row that is not whole yet: all of a row but its last byte, and its two sizes.
const PARTIAL_SIZE_BYTES_MAX: usize = KEY_SIZE_BYTES_MAX + VALUE_SIZE_BYTES_MAX + 2 * ROW_OVERHEAD_BYTES_MAX + 20;

const RECORD_VERSION: u8 = 1;

/// Why a chunk cannot be made or taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The tree failed.
    Tree(TreeError),
    /// The chunk asked for comes after one that was never made.
    NotMade {
        /// Its number.
        number: u64,
    },
    /// Bytes that are not a chunk, or a body that is not rows in order.
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The checksum does not fit the bytes.
    Checksum,
    /// A chunk of another group, or of another moment.
    Foreign,
    /// Not the chunk that is needed next. Nothing was changed: ask for that one.
    OutOfOrder {
        /// The number that is needed next.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The last chunk has not come, or the rows end within one or lack the position.
    Incomplete,
    /// What is to be resumed is not a record of a writer.
    Record,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(_) => write!(f, "the tree of a snapshot failed"),
            Self::NotMade { number } => write!(f, "snapshot chunk {number} comes after one that was not made yet"),
            Self::Malformed { what } => write!(f, "snapshot chunk is malformed: {what}"),
            Self::Checksum => write!(f, "snapshot chunk does not fit its checksum"),
            Self::Foreign => write!(f, "snapshot chunk belongs to another snapshot"),
            Self::OutOfOrder { expected, got } => write!(f, "snapshot chunk {got} came, expected {expected}"),
            Self::Incomplete => write!(f, "snapshot ended before its last chunk"),
            Self::Record => write!(f, "the record of how far a snapshot was received cannot be read"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tree(error) => Some(error),
            Self::NotMade { .. }
            | Self::Malformed { .. }
            | Self::Checksum
            | Self::Foreign
            | Self::OutOfOrder { .. }
            | Self::Incomplete
            | Self::Record => None,
        }
    }
}

impl From<TreeError> for SnapshotError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// What the chunks of a snapshot amount to, from the first up to some point. Two copies that agree in count and digest
/// have taken the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    /// CRC-64/NVME over the digest before the last chunk and that chunk; 0 before the first.
    pub digest: u64,
    /// Their size in bytes, headers included.
    pub size_bytes: u64,
}

impl SnapshotMark {
    fn after(self, chunk: &[u8]) -> Self {
        let mut crc = Crc::new(CrcAlgorithm::Crc64Nvme);
        crc.update(&self.digest.to_le_bytes());
        crc.update(chunk);
        Self { digest: crc.finalize(), size_bytes: self.size_bytes + chunk.len() as u64 }
    }
}

/// Where a chunk begins.
#[derive(Clone, Debug)]
struct Start {
    /// From this row on.
    from: Bound<Bytes>,
    /// Bytes of the first row that the chunk before has sent.
    skip_bytes: usize,
}

/// A pinned moment of committed state, on the sending side.
pub struct Snapshot {
    pin: Box<dyn Pin>,
    group: GroupId,
    meta: Meta,
    epochs: Vec<(Epoch, Lsn)>,
    /// Where each chunk made so far begins, and the next one.
    starts: Vec<Start>,
    /// What the chunks made so far amount to: that before the first, then one after each.
    marks: Vec<SnapshotMark>,
    /// How many chunks there are, once the last one was made.
    count: Option<u64>,
    size_bytes_estimate: u64,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("at", &self.at()).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(pin: Box<dyn Pin>, group: GroupId, size_bytes_estimate: u64) -> Result<Self, TreeError> {
        let meta = pin.get(key::META_KEY)?.map_or(Ok(Meta::default()), |row| Meta::decode(&row))?;
        let rows = pin.scan(Bound::Included(&[key::EPOCH]), Some(&[key::EPOCH + 1]), usize::MAX)?;
        let epochs = rows.iter().map(key::parse_epoch).collect::<Result<_, _>>()?;
        let first = Start { from: Bound::Included(Bytes::new()), skip_bytes: 0 };
        Ok(Self {
            pin,
            group,
            meta,
            epochs,
            starts: vec![first],
            marks: vec![SnapshotMark::default()],
            count: None,
            size_bytes_estimate,
        })
    }

    /// The last entry that it includes.
    #[must_use]
    pub fn at(&self) -> EntryId {
        self.meta.applied
    }

    /// The first position of each epoch up to there.
    #[must_use]
    pub fn epochs(&self) -> &[(Epoch, Lsn)] {
        &self.epochs
    }

    /// About how many bytes all chunks together have: for progress. Compression on disk makes it too low.
    #[must_use]
    pub fn size_bytes_estimate(&self) -> u64 {
        self.size_bytes_estimate
    }

    /// What the first `count` chunks amount to; `None` if they were never all made.
    #[must_use]
    pub fn mark(&self, count: u64) -> Option<SnapshotMark> {
        self.marks.get(usize::try_from(count).ok()?).copied()
    }

    /// The chunk with this number, from 0; `None` past the last one. Chunks are made in order, and again in any order.
    ///
    /// # Errors
    /// [`SnapshotError::NotMade`] if the chunk before it was never made; [`SnapshotError::Tree`].
    pub fn chunk(&mut self, number: u64) -> Result<Option<Vec<u8>>, SnapshotError> {
        if self.count.is_some_and(|count| number >= count) {
            return Ok(None);
        }
        let index = usize::try_from(number).map_err(|_| SnapshotError::NotMade { number })?;
        let start = self.starts.get(index).cloned().ok_or(SnapshotError::NotMade { number })?;
        let (body, next) = self.body(start)?;
        let last = next.is_none();
        match next {
            Some(next) if self.starts.len() == index + 1 => self.starts.push(next),
            Some(_) => {}
            None => self.count = Some(number + 1),
        }
        let chunk = self.frame(number, last, &body);
        if let Some(before) = self.marks.last().copied().filter(|_| self.marks.len() == index + 1) {
            self.marks.push(before.after(&chunk));
        }
        Ok(Some(chunk))
    }

    /// The bytes of rows from `start` on, as many as fit, and where the next chunk begins if anything is left.
    fn body(&self, start: Start) -> Result<(Vec<u8>, Option<Start>), TreeError> {
        let mut body = Vec::new();
        let Start { mut from, mut skip_bytes } = start;
        loop {
            for (row_key, row) in self.rows(&from, page_count(&body, skip_bytes))? {
                let row_start = body.len();
                put_varint(&mut body, row_key.len() as u64);
                put_varint(&mut body, row.len() as u64);
                body.extend_from_slice(&row_key);
                body.extend_from_slice(&row);
                body.drain(row_start..row_start + skip_bytes);
                if body.len() > BODY_SIZE_BYTES_MAX {
                    let sent_bytes = skip_bytes + BODY_SIZE_BYTES_MAX - row_start;
                    body.truncate(BODY_SIZE_BYTES_MAX);
                    return Ok((body, Some(Start { from: Bound::Included(row_key), skip_bytes: sent_bytes })));
                }
                skip_bytes = 0;
                from = Bound::Excluded(row_key);
            }
            if self.rows(&from, 1)?.is_empty() {
                return Ok((body, None));
            }
        }
    }

    /// Up to `count` rows that belong to the state, from the first range that has any.
    fn rows(&self, from: &Bound<Bytes>, count: usize) -> Result<Rows, TreeError> {
        let generation = self.meta.generation;
        for kind in [key::EPOCH, key::KEY, key::META, key::REPLY, key::SESSION, key::EXPIRY] {
            let (start, end) = if matches!(kind, key::KEY | key::EXPIRY) {
                (key::generation_start(kind, generation), key::generation_end(kind, generation))
            } else {
                (vec![kind], vec![kind + 1])
            };
            let bound = match from {
                Bound::Included(key) | Bound::Excluded(key) if **key >= start[..] => from.as_ref().map(|key| &key[..]),
                Bound::Included(_) | Bound::Excluded(_) | Bound::Unbounded => Bound::Included(&start[..]),
            };
            let rows = self.pin.scan(bound, Some(&end), count)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        Ok(Rows::new())
    }

    fn frame(&self, number: u64, last: bool, body: &[u8]) -> Vec<u8> {
        let at = self.at();
        let mut out = Vec::with_capacity(HEADER_SIZE_BYTES + body.len() + CRC_SIZE_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[FORMAT_VERSION, u8::from(last), 0, 0]);
        out.extend_from_slice(&self.group.0.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        for number in [at.epoch.0, at.lsn.0, number] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(body);
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &out) as u32;
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

/// How many rows to read next: few while their size is not known, since each may be large, then about as many as will
/// fit.
fn page_count(body: &[u8], skip_bytes: usize) -> usize {
    if skip_bytes > 0 {
        return 1;
    }
    if body.is_empty() { 8 } else { 512 }
}

/// A checked chunk.
struct Chunk<'a> {
    group: GroupId,
    at: EntryId,
    number: u64,
    last: bool,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, SnapshotError> {
        let malformed = |what| SnapshotError::Malformed { what };
        if bytes.len() > CHUNK_SIZE_BYTES_MAX {
            return Err(malformed("too long"));
        }
        let (covered, crc) = bytes.split_last_chunk::<CRC_SIZE_BYTES>().ok_or(malformed("too short"))?;
        if !covered.starts_with(MAGIC) {
            return Err(malformed("no chunk"));
        }
        if checksum(CrcAlgorithm::Crc32Iscsi, covered) as u32 != u32::from_le_bytes(*crc) {
            return Err(SnapshotError::Checksum);
        }
        let mut reader = Reader::new(&covered[MAGIC.len()..]);
        if reader.u8() != Some(FORMAT_VERSION) {
            return Err(malformed("unknown format version"));
        }
        let mut header = || {
            let last = reader.u8()?;
            let reserved = reader.bytes(2)?;
            let group = GroupId(reader.u32()?);
            let size = reader.u32()?;
            let at = EntryId { epoch: Epoch(reader.u64()?), lsn: Lsn(reader.u64()?) };
            let chunk = Self { group, at, number: reader.u64()?, last: last == 1, body: reader.rest() };
            (last <= 1 && reserved == [0, 0] && size as usize == chunk.body.len()).then_some(chunk)
        };
        header().ok_or(malformed("header"))
    }
}

/// Fills a tree from the chunks of a snapshot, on the receiving side.
pub struct SnapshotWriter {
    tree: Arc<dyn Tree>,
    group: GroupId,
    at: EntryId,
    next: u64,
    ended: bool,
    /// Bytes of a row that is not whole yet.
    partial: Vec<u8>,
    rows: Rows,
    rows_size_bytes: usize,
    last_key: Bytes,
    /// The generation of the rows so far, if any has one.
    generation: Option<Lsn>,
    meta: Option<Meta>,
    mark: SnapshotMark,
    /// Rows were loaded since the last record was taken.
    record_due: bool,
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("at", &self.at).field("next", &self.next).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// Begins to fill `tree`, which must be empty, with the snapshot at `at`.
    #[must_use]
    pub fn new(tree: Arc<dyn Tree>, group: GroupId, at: EntryId) -> Self {
        Self {
            tree,
            group,
            at,
            next: 0,
            ended: false,
            partial: Vec::new(),
            rows: Rows::new(),
            rows_size_bytes: 0,
            last_key: Bytes::new(),
            generation: None,
            meta: None,
            mark: SnapshotMark::default(),
            record_due: false,
        }
    }

    /// Goes on, after a crash, where a record of [`SnapshotWriter::take_record`] was taken. `tree` is the one that was
    /// filled then. Rows that were loaded after the record are loaded again; they are the same if the chunks are, which
    /// the sender's [`SnapshotMark`] tells.
    ///
    /// # Errors
    /// [`SnapshotError::Record`]: the tree is to be thrown away.
    pub fn resume(tree: Arc<dyn Tree>, group: GroupId, at: EntryId, record: &[u8]) -> Result<Self, SnapshotError> {
        let mut writer = Self::new(tree, group, at);
        writer.read_record(record).ok_or(SnapshotError::Record)?;
        Ok(writer)
    }

    fn read_record(&mut self, record: &[u8]) -> Option<()> {
        let mut reader = Reader::new(record);
        if reader.u8()? != RECORD_VERSION {
            return None;
        }
        (self.next, self.mark) = (reader.u64()?, SnapshotMark { digest: reader.u64()?, size_bytes: reader.u64()? });
        self.last_key = Bytes::copy_from_slice(reader.blob(KEY_SIZE_BYTES_MAX + ROW_OVERHEAD_BYTES_MAX)?);
        self.generation = match reader.u8()? {
            0 => None,
            1 => Some(Lsn(reader.u64()?)),
            _ => return None,
        };
        let meta = reader.blob(PARTIAL_SIZE_BYTES_MAX)?;
        self.meta = if meta.is_empty() { None } else { Some(Meta::decode(meta).ok()?) };
        self.partial = reader.blob(PARTIAL_SIZE_BYTES_MAX)?.to_vec();
        reader.is_empty().then_some(())
    }

    /// What [`SnapshotWriter::resume`] needs to go on from here, if rows became durable since the last call. Call it
    /// after each chunk, and write it down durably: every `LOAD_SIZE_BYTES` of rows there is one. None after the last
    /// chunk: who goes on from a record asks for the next chunk, and there must be one to come.
    pub fn take_record(&mut self) -> Option<Vec<u8>> {
        if self.ended || !self.rows.is_empty() || !std::mem::take(&mut self.record_due) {
            return None;
        }
        let mut out = vec![RECORD_VERSION];
        for number in [self.next, self.mark.digest, self.mark.size_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_blob(&mut out, &self.last_key);
        out.push(u8::from(self.generation.is_some()));
        if let Some(generation) = self.generation {
            out.extend_from_slice(&generation.0.to_le_bytes());
        }
        put_blob(&mut out, &self.meta.as_ref().map(Meta::encode).unwrap_or_default());
        put_blob(&mut out, &self.partial);
        Some(out)
    }

    /// The number of the chunk that is needed next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What the chunks taken so far amount to.
    #[must_use]
    pub fn mark(&self) -> SnapshotMark {
        self.mark
    }

    /// Whether the last chunk was taken.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the next chunk. Not durable before [`SnapshotWriter::finish`].
    ///
    /// # Errors
    /// [`SnapshotError`]. After `Checksum`, `Foreign` and `OutOfOrder` nothing was changed, and the chunk may come
    /// again; after any other the copy is to be thrown away.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let chunk = Chunk::parse(bytes)?;
        if (chunk.group, chunk.at) != (self.group, self.at) {
            return Err(SnapshotError::Foreign);
        }
        if chunk.number != self.next || self.ended {
            return Err(SnapshotError::OutOfOrder { expected: self.next, got: chunk.number });
        }
        self.partial.extend_from_slice(chunk.body);
        self.take_rows()?;
        self.next += 1;
        self.ended = chunk.last;
        self.mark = self.mark.after(bytes);
        if self.rows_size_bytes >= LOAD_SIZE_BYTES {
            // Only between two chunks, so that a record tells of whole ones.
            self.load()?;
        }
        Ok(())
    }

    /// Moves the whole rows out of `partial`.
    fn take_rows(&mut self) -> Result<(), SnapshotError> {
        let partial = Bytes::from(std::mem::take(&mut self.partial));
        let mut at = 0;
        while let Some((row_key, row, size)) = parse_row(&partial, at)? {
            at += size;
            self.take_row(row_key, row)?;
        }
        self.partial = partial[at..].to_vec();
        Ok(())
    }

    fn take_row(&mut self, row_key: Bytes, row: Bytes) -> Result<(), SnapshotError> {
        if row_key <= self.last_key {
            return Err(SnapshotError::Malformed { what: "rows out of order" });
        }
        match row_key.first() {
            Some(&(key::KEY | key::EXPIRY)) => {
                let generation = row_key.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
                let generation = Lsn(generation.ok_or(SnapshotError::Malformed { what: "a key's row" })?);
                if *self.generation.get_or_insert(generation) != generation {
                    return Err(SnapshotError::Malformed { what: "rows of two generations" });
                }
                if row_key[0] == key::KEY {
                    key::decode_entry(&row)?;
                }
            }
            Some(&(key::EPOCH | key::REPLY | key::SESSION)) => {}
            Some(&key::META) => self.meta = Some(Meta::decode(&row)?),
            Some(_) | None => return Err(SnapshotError::Malformed { what: "a row of unknown kind" }),
        }
        self.last_key = row_key.clone();
        if row_key[0] != key::META {
            self.rows_size_bytes += row_key.len() + row.len();
            self.rows.push((row_key, row));
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), TreeError> {
        let rows = std::mem::take(&mut self.rows);
        self.rows_size_bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        self.tree.load(&rows)?;
        self.record_due = true;
        // Keeps the number of sorted runs small while a large copy comes in.
        self.tree.maintain()
    }

    /// Ends the copy: durable on return, and a [`crate::State`] may be opened on the tree.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`] if the last chunk has not come or the rows do not make a state at the promised
    /// entry; [`SnapshotError::Tree`]. The copy is to be thrown away.
    pub fn finish(mut self) -> Result<EntryId, SnapshotError> {
        if !self.ended || !self.partial.is_empty() {
            return Err(SnapshotError::Incomplete);
        }
        let Some(meta) = self.meta else {
            // Only the state before the first entry has no position, and no rows.
            let empty = self.at == EntryId::default() && self.rows.is_empty() && self.last_key.is_empty();
            return if empty { Ok(self.at) } else { Err(SnapshotError::Incomplete) };
        };
        if meta.applied != self.at || self.generation.is_some_and(|generation| generation != meta.generation) {
            return Err(SnapshotError::Incomplete);
        }
        self.load()?;
        // A copy that broke off after this, before it was in use, has its position already.
        if self.tree.applied() < self.at.lsn {
            let mut batch = Batch::new();
            batch.put(key::META_KEY, meta.encode());
            self.tree.apply(self.at.lsn, &batch)?;
        }
        self.tree.flush()?;
        Ok(self.at)
    }
}

/// The row at `at`, and its size in the stream; `None` if it is not whole yet.
fn parse_row(bytes: &Bytes, at: usize) -> Result<Option<(Bytes, Bytes, usize)>, SnapshotError> {
    let too_long = SnapshotError::Malformed { what: "a row is too long" };
    let rest = &bytes[at..];
    let mut reader = Reader::new(rest);
    let (Some(key_size), Some(row_size)) = (reader.varint(), reader.varint()) else {
        // Two numbers that are not whole yet take less than this.
        return if rest.len() < 20 { Ok(None) } else { Err(SnapshotError::Malformed { what: "the size of a row" }) };
    };
    let key_size = usize::try_from(key_size).map_err(|_| too_long.clone())?;
    let row_size = usize::try_from(row_size).map_err(|_| too_long.clone())?;
    if key_size > KEY_SIZE_BYTES_MAX + ROW_OVERHEAD_BYTES_MAX
        || row_size > VALUE_SIZE_BYTES_MAX + ROW_OVERHEAD_BYTES_MAX
    {
        return Err(too_long);
    }
    let key_at = bytes.len() - reader.rest().len();
    let row_at = key_at + key_size;
    let end = row_at + row_size;
    if end > bytes.len() {
        return Ok(None);
    }
    // Copies, so that one small row does not keep the whole chunk alive.
    let (row_key, row) = (Bytes::copy_from_slice(&bytes[key_at..row_at]), Bytes::copy_from_slice(&bytes[row_at..end]));
    Ok(Some((row_key, row, end - at)))
}
