//! Random operations over all implementations at once: whatever one answers, all must answer, through flushes,
//! compactions, pins and crashes. A failure names its seed.

use super::redb::RedbTree;
use super::{Batch, LsmTree, MapTree, Pin, Rows, Tree, TreeError};
use bytes::Bytes;
use hotwarm_types::Lsn;
use std::ops::Bound;
use std::path::Path;
use tempfile::TempDir;

/// The three trees, in a folder that stands for the disk.
struct Trio {
    folder: TempDir,
    lsm: LsmTree,
    redb: RedbTree,
    map: MapTree,
}

const LSM_FOLDER: &str = "lsm";
const REDB_FILE: &str = "redb";

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Trio {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), MapTree::new())
    }

    fn open(folder: TempDir, map: MapTree) -> Self {
        let lsm = LsmTree::open(&folder.path().join(LSM_FOLDER), 1 << 20).unwrap();
        let redb = RedbTree::open(&folder.path().join(REDB_FILE)).unwrap();
        Self { folder, lsm, redb, map }
    }

    /// What a machine finds after a power cut: the files as they are, without a word to whoever wrote them.
    fn crash(self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        Self::open(folder, self.map.crash())
    }

    fn all(&self) -> [&dyn Tree; 3] {
        [&self.map, &self.lsm, &self.redb]
    }

    /// Does the same to all and wants the same answer.
    fn same<T: PartialEq + std::fmt::Debug>(&self, act: impl Fn(&dyn Tree) -> T) -> T {
        let [map, lsm, redb] = self.all().map(act);
        assert_eq!(map, lsm, "lsm-tree differs from the map");
        assert_eq!(map, redb, "redb differs from the map");
        map
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn key(&mut self) -> Bytes {
        let number = self.roll(60) as u8;
        Bytes::from(if number.is_multiple_of(3) { vec![b'k', number] } else { vec![b'k', number, 0xff] })
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::new();
        for _ in 0..self.roll(8) {
            if self.roll(3) == 0 {
                batch.remove(self.key());
            } else {
                let (size, fill) = (self.roll(40) as usize, self.roll(256) as u8);
                batch.put(self.key(), vec![fill; size]);
            }
        }
        batch
    }

    fn bounds(&mut self) -> (Bound<Bytes>, Option<Bytes>, usize) {
        // Never below the first key: the position's row is there in two of the trees.
        let from = match self.roll(3) {
            0 => Bound::Excluded(Bytes::from_static(b"k")),
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        };
        let until = (self.roll(2) == 0).then(|| self.key());
        (from, until, self.roll(70) as usize)
    }
}

fn check_pins(pins: &[[Box<dyn Pin>; 3]], dice: &mut Dice) {
    for [map, lsm, redb] in pins {
        assert_eq!((map.at(), map.at()), (lsm.at(), redb.at()));
        let (from, until, count) = dice.bounds();
        let scan = |pin: &dyn Pin| pin.scan(from.as_ref().map(|key| &key[..]), until.as_deref(), count).unwrap();
        assert_eq!(scan(map.as_ref()), scan(lsm.as_ref()));
        assert_eq!(scan(map.as_ref()), scan(redb.as_ref()));
        let key = dice.key();
        assert_eq!(map.get(&key).unwrap(), lsm.get(&key).unwrap());
        assert_eq!(map.get(&key).unwrap(), redb.get(&key).unwrap());
    }
}

fn run(seed: u64, steps: usize) {
    let mut dice = Dice(seed);
    let mut trio = Trio::new();
    let mut pins: Vec<[Box<dyn Pin>; 3]> = Vec::new();
    for _ in 0..steps {
        match dice.roll(40) {
            0..20 => {
                let (batch, at) = (dice.batch(), trio.map.applied().plus(1 + dice.roll(5)));
                trio.same(|tree| tree.apply(at, &batch)).unwrap();
            }
            20..26 => {
                let key = dice.key();
                trio.same(|tree| tree.get(&key)).unwrap();
            }
            26..30 => {
                let (from, until, count) = dice.bounds();
                let from = from.as_ref().map(|key| &key[..]);
                trio.same(|tree| tree.scan(from, until.as_deref(), count)).unwrap();
            }
            30..33 => {
                trio.same(|tree| tree.flush()).unwrap();
            }
            33 => trio.same(|tree| tree.maintain()).unwrap(),
            34..36 => {
                if pins.len() == 4 {
                    pins.swap_remove(dice.roll(4) as usize);
                }
                pins.push(trio.all().map(|tree| tree.pin().unwrap()));
            }
            36..39 => check_pins(&pins, &mut dice),
            _ => {
                pins.clear();
                trio = trio.crash();
            }
        }
        trio.same(|tree| (tree.applied(), tree.durable()));
    }
    check_pins(&pins, &mut dice);
}

#[test]
fn all_trees_answer_the_same_through_flushes_compactions_pins_and_crashes() {
    // More of them for a longer look, before another version of an engine is taken in: HOTWARM_SEEDS=500.
    let seeds = std::env::var("HOTWARM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, 250));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn loaded_rows_survive_a_crash_and_count_only_with_the_batch_that_ends_the_load() {
    let mut trio = Trio::new();
    let rows = |from: u8| -> Rows {
        (from..from + 20)
            .map(|number| (Bytes::copy_from_slice(&[b'k', number]), Bytes::from(vec![number; 9])))
            .collect()
    };
    trio.same(|tree| tree.load(&rows(0))).unwrap();
    trio.same(|tree| tree.load(&rows(20))).unwrap();
    trio = trio.crash();
    trio.same(|tree| (tree.applied(), tree.durable()));
    let mut end = Batch::new();
    end.put(&b"m"[..], &b"end"[..]);
    trio.same(|tree| tree.apply(Lsn(7), &end)).unwrap();
    trio.same(|tree| tree.flush()).unwrap();
    trio = trio.crash();
    assert_eq!(trio.same(|tree| tree.applied()), Lsn(7));
    let all = trio.same(|tree| tree.scan(Bound::Included(&b"k"[..]), None, 100)).unwrap();
    assert_eq!(all.len(), 41);
    let unsorted: Rows = rows(0).into_iter().rev().collect();
    assert_eq!(trio.same(|tree| tree.load(&unsorted)), Err(TreeError::Unsorted));
}

#[test]
fn a_batch_that_goes_back_is_refused_and_changes_nothing() {
    let trio = Trio::new();
    let mut batch = Batch::new();
    batch.put(&b"k"[..], &b"1"[..]);
    trio.same(|tree| tree.apply(Lsn(5), &batch)).unwrap();
    let mut late = Batch::new();
    late.put(&b"k"[..], &b"2"[..]);
    for at in [Lsn(5), Lsn(4)] {
        let refused = TreeError::OutOfOrder { applied: Lsn(5), at };
        assert_eq!(trio.same(|tree| tree.apply(at, &late)), Err(refused));
    }
    assert_eq!(trio.same(|tree| tree.get(b"k")).unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_broken_file_is_an_error_and_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let tree = LsmTree::open(folder.path(), 0).unwrap();
    let mut batch = Batch::new();
    for number in 0..50_u8 {
        batch.put(vec![b'k', number], vec![number; 100]);
    }
    tree.apply(Lsn(1), &batch).unwrap();
    tree.flush().unwrap();
    drop(tree);
    let tables = folder.path().join("tables");
    let table = std::fs::read_dir(&tables).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&table).unwrap();
    for index in (0..whole.len()).step_by(97) {
        let mut broken = whole.clone();
        broken[index] ^= 0x10;
        std::fs::write(&table, broken).unwrap();
        let Ok(tree) = LsmTree::open(folder.path(), 0) else { continue };
        for number in 0..50_u8 {
            if let Ok(row) = tree.get(&[b'k', number]) {
                assert_eq!(row.as_deref(), Some(&[number; 100][..]), "byte {index} of the file is flipped");
            }
        }
    }
}
