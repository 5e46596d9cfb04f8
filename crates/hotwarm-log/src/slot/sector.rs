//! The sectors of a slot: each says to which record it belongs, so that damage is told from an interrupted write.
//!
//! A slot is a row of sectors of 512 bytes, each of which says to which record it belongs. All numbers are
//! little-endian.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32C of bytes 4 to 511 |
//! | 4 | 4 | purpose of the file: `VOTE`, `HEAD`, `FOLD` |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | index of this sector in its record, from 0 |
//! | 12 | 2 | sectors of the record, at least 2 |
//! | 14 | 2 | zero |
//! | 16 | 8 | generation: grows by one with each write, from 1 |
//! | 24 | 4 | size of the payload in bytes |
//! | 28 | 4 | group |
//! | 32 | 16 | cluster |
//! | 48 | 464 | payload, the last sector filled with zeros |
//!
//! Why each sector: a device writes a sector whole or not at all, so an interrupted write leaves sectors that are all
//! intact, of two generations, and the older record is right: the newer was never reported. A sector that is *not*
//! intact was damaged later, and the newer record may well have been reported: then falling back would silently take
//! back a promise (a vote, say), and the file is refused instead. With at least two sectors a record, one damaged
//! sector is enough to tell these cases apart.

use super::{BLANK, HEADER_SIZE_BYTES, PAYLOAD_SIZE_BYTES, SECTORS_MAX, SECTORS_MIN, SlotPurpose};
use crate::checksum::{Checksum, put, u16_at, u32_at, u64_at, u128_at};
use hotwarm_disk::SECTOR_SIZE_BYTES;
use hotwarm_types::{ClusterId, GroupId};

/// What a sector says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sector {
    pub(super) purpose: SlotPurpose,
    pub(super) version: u16,
    pub(super) index: u16,
    pub(super) count: u16,
    pub(super) generation: u64,
    pub(super) size: u32,
    pub(super) group: GroupId,
    pub(super) cluster: ClusterId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Blank,
    Intact(Sector),
    Damaged,
}

fn sector(slot: &[u8], index: usize) -> Found {
    let bytes = &slot[index * SECTOR_SIZE_BYTES..(index + 1) * SECTOR_SIZE_BYTES];
    if bytes == BLANK {
        return Found::Blank;
    }
    // The cluster is read from the sector, so it cannot seed the checksum.
    if !Checksum::new(ClusterId(0)).holds(bytes) {
        return Found::Damaged;
    }
    let mut purpose = [0; 4];
    purpose.copy_from_slice(&bytes[4..8]);
    Found::Intact(Sector {
        purpose: SlotPurpose(purpose),
        version: u16_at(bytes, 8),
        index: u16_at(bytes, 10),
        count: u16_at(bytes, 12),
        generation: u64_at(bytes, 16),
        size: u32_at(bytes, 24),
        group: GroupId(u32_at(bytes, 28)),
        cluster: ClusterId(u128_at(bytes, 32)),
    })
}

/// The first sector of a slot that holds a whole record.
fn whole(slot: &[u8]) -> Option<Sector> {
    let Found::Intact(head) = sector(slot, 0) else { return None };
    let count = usize::from(head.count);
    if head.index != 0 || !(SECTORS_MIN..=SECTORS_MAX).contains(&count) {
        return None;
    }
    (1..count).all(|index| sector(slot, index) == Found::Intact(Sector { index: index as u16, ..head })).then_some(head)
}

/// Which slot holds the newest record that may have been reported, and its first sector.
pub(super) fn pick(slots: [&[u8]; 2]) -> Result<(usize, Sector), &'static str> {
    match slots.map(whole) {
        [Some(a), Some(b)] if a.generation == b.generation => Err("both slots claim to be the same record"),
        [Some(a), Some(b)] => Ok(if a.generation > b.generation { (0, a) } else { (1, b) }),
        [Some(a), None] if unfinished(slots[1], a.generation) => Ok((0, a)),
        [None, Some(b)] if unfinished(slots[0], b.generation) => Ok((1, b)),
        [None, None] => Err("neither slot holds a whole record"),
        [Some(_), None] | [None, Some(_)] => Err("the newest record is damaged"),
    }
}

/// Whether no record newer than `generation` was ever written to this slot in full: a sector that such a record
/// would have replaced is intact, and older.
fn unfinished(slot: &[u8], generation: u64) -> bool {
    let newer_count = (0..SECTORS_MAX).filter_map(|index| match sector(slot, index) {
        Found::Intact(sector) if sector.generation > generation => Some(usize::from(sector.count)),
        Found::Intact(_) | Found::Blank | Found::Damaged => None,
    });
    let count = newer_count.max().unwrap_or(SECTORS_MIN).clamp(SECTORS_MIN, SECTORS_MAX);
    (0..count).any(|index| match sector(slot, index) {
        Found::Blank => true,
        Found::Intact(sector) => sector.generation <= generation,
        Found::Damaged => false,
    })
}

pub(super) fn payload(slot: &[u8], head: &Sector) -> Option<Vec<u8>> {
    let count = usize::from(head.count);
    let size = head.size as usize;
    let mut payload = Vec::with_capacity(count * PAYLOAD_SIZE_BYTES);
    for sector in slot.chunks_exact(SECTOR_SIZE_BYTES).take(count) {
        payload.extend_from_slice(&sector[HEADER_SIZE_BYTES..]);
    }
    (size <= payload.len()).then(|| {
        payload.truncate(size);
        payload
    })
}

/// Makes the record of `head` and `payload`, sector by sector; index, count and size are those of the payload.
pub(super) fn fill(buffer: &mut Vec<u8>, head: &Sector, payload: &[u8]) {
    let count = payload.len().div_ceil(PAYLOAD_SIZE_BYTES).max(SECTORS_MIN);
    let checksum = Checksum::new(ClusterId(0));
    buffer.clear();
    buffer.resize(count * SECTOR_SIZE_BYTES, 0);
    let mut pieces = payload.chunks(PAYLOAD_SIZE_BYTES);
    for (index, sector) in buffer.chunks_exact_mut(SECTOR_SIZE_BYTES).enumerate() {
        put(sector, 4, &head.purpose.0);
        put(sector, 8, &head.version.to_le_bytes());
        put(sector, 10, &(index as u16).to_le_bytes());
        put(sector, 12, &(count as u16).to_le_bytes());
        put(sector, 16, &head.generation.to_le_bytes());
        put(sector, 24, &(payload.len() as u32).to_le_bytes());
        put(sector, 28, &head.group.0.to_le_bytes());
        put(sector, 32, &head.cluster.0.to_le_bytes());
        put(sector, HEADER_SIZE_BYTES, pieces.next().unwrap_or_default());
        checksum.seal(sector);
    }
}
