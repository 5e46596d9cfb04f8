//! The vote record on disk: two slots of sectors, each sector with a checksum of its own.

use super::{SMALL, led};
use crate::disk::MemoryDisk;
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_log::{SlotFile, SlotPurpose};
use hotwarm_wire::crc32c;
use std::sync::LazyLock;

pub(super) const SLOT: Target = Target { name: "slot", run, seeds, memory_base_bytes: 4 << 20, ..SMALL };

const PATH: &str = "vote";
const SECTOR_SIZE_BYTES: usize = 512;
/// Bytes from one slot to the next: a record of 256 KiB in sectors with 464 bytes each, to a whole page.
const STRIDE_BYTES: usize = ((256_usize << 10).div_ceil(464) * SECTOR_SIZE_BYTES).next_multiple_of(4096);

/// The records that the example wrote: the older one lies in one slot, the newer one in the other.
const RECORDS: [&[u8]; 2] = [&[b'o'; 700], &[b'n'; 1000]];

/// A file with both records.
static EXAMPLE: LazyLock<MemoryDisk> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let mut slots = SlotFile::create(&disk, PATH, SlotPurpose::VOTE, sample::CLUSTER, sample::GROUP, RECORDS[0])
        .expect("a disk in memory takes everything");
    slots.write(RECORDS[1]).expect("a disk in memory takes everything");
    disk
});

/// Puts the right checksum into a sector. That of cluster 0: who reads a slot learns the cluster from it.
fn seal(sector: &mut [u8]) {
    let covered = [&0_u128.to_le_bytes(), &sector[4..]].concat();
    sector[..4].copy_from_slice(&crc32c(&covered).to_le_bytes());
}

/// Edits of a file of slots: where, with what, sealed or not. Says whether all it did was to flip single bits.
pub(super) fn edit(draw: &mut Draw<'_>, disk: &MemoryDisk, path: &str) -> bool {
    let mut only_flips = true;
    for _ in 0..draw.below(8) {
        let how = draw.u8();
        // The first sectors of either slot, where records are.
        let slot = usize::from(how >> 2 & 1);
        let sector = slot * STRIDE_BYTES + usize::from(how >> 3 & 7) * SECTOR_SIZE_BYTES;
        let at = usize::from(draw.u16()) % SECTOR_SIZE_BYTES;
        disk.edit(path, |content| {
            let mut bytes = content.range(sector, SECTOR_SIZE_BYTES);
            match how & 3 {
                0 => bytes[at] ^= 1 << (at & 7),
                1 | 2 => {
                    let new = draw.bytes();
                    let end = (at + new.len()).min(SECTOR_SIZE_BYTES);
                    bytes[at..end].copy_from_slice(&new[..end - at]);
                    if how & 3 == 1 {
                        seal(&mut bytes);
                    }
                }
                _ => bytes.fill(0),
            }
            only_flips &= how & 3 == 0;
            content.overwrite(sector, &bytes);
            if how & 0xc3 == 0xc3 {
                content.size_bytes = at as u64 * 1024;
            }
        });
    }
    only_flips
}

fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let disk = EXAMPLE.fork();
    let untouched = draw.clone().below(8) == 0;
    let only_flips = edit(&mut draw, &disk, PATH);
    let open = || SlotFile::open(&disk, PATH, SlotPurpose::VOTE, sample::CLUSTER, sample::GROUP);
    let (mut slots, payload) = match open() {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!untouched && error.to_string().contains(PATH), "{error}");
            return;
        }
    };
    if only_flips {
        assert_eq!(payload, RECORDS[1], "a flipped bit took a promise back");
    }
    let expected = if slots.write(b"replaced").is_ok() { b"replaced".to_vec() } else { payload };
    let (_, read) = open().expect("what has opened opens again");
    assert_eq!(read, expected, "what was written is not there");
}

fn seeds() -> Vec<Seed> {
    vec![
        ("untouched", vec![0]),
        ("a flip in the older", vec![1, 0b000, 9, 1]),
        ("a flip in the newer", vec![1, 0b100, 9, 1]),
        ("a torn write", vec![1, 0b111, 0, 0]),
        ("both torn", vec![2, 0b111, 0, 0, 0b011, 0, 0]),
        ("sealed: generation", led(&[1, 0b001, 16, 0, 8], &9_u64.to_le_bytes())),
        ("sealed: count", led(&[1, 0b101, 12, 0, 2], &600_u16.to_le_bytes())),
        ("sealed: size", led(&[1, 0b101, 24, 0, 4], &u32::MAX.to_le_bytes())),
        ("too short", vec![1, 0xc3, 3, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_file() {
        let size = EXAMPLE.fork().edit(PATH, |content| content.size_bytes);
        assert_eq!(size, 2 * STRIDE_BYTES as u64);
        let sealed = EXAMPLE.fork().edit(PATH, |content| {
            let sector = content.range(STRIDE_BYTES, SECTOR_SIZE_BYTES);
            let mut again = sector.clone();
            seal(&mut again);
            (sector, again)
        });
        assert_eq!(sealed.0, sealed.1);
    }
}
