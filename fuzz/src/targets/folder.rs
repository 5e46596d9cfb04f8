//! Whose data folder it is: the record in slots that every start reads first.

use super::slot::edit;
use super::{SMALL, led};
use crate::disk::MemoryDisk;
use crate::draw::Draw;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_log::{Folder, FolderExpected, FolderIdentity, FolderState};
use hotwarm_types::FolderId;
use std::sync::LazyLock;

pub(super) const FOLDER: Target = Target { name: "folder", run, seeds, memory_base_bytes: 4 << 20, ..SMALL };

const PATH: &str = "folder.hotwarm";

fn expected(copy_allowed: bool) -> FolderExpected {
    FolderExpected { cluster: Some(sample::CLUSTER), group: sample::GROUP, name: "a".to_owned(), copy_allowed }
}

/// A folder that was started and stopped once.
static EXAMPLE: LazyLock<MemoryDisk> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let identity =
        FolderIdentity { cluster: sample::CLUSTER, group: sample::GROUP, name: "a".to_owned(), folder: FolderId(0xa) };
    Folder::create(&disk, identity, FolderState::Complete).expect("a disk in memory takes everything");
    let (folder, _) = Folder::open(&disk, &expected(false), 5).expect("what was made opens");
    folder.close_cleanly().expect("a disk in memory takes everything");
    disk
});

fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let disk = EXAMPLE.fork();
    let untouched = draw.clone().below(8) == 0;
    let copy_allowed = input.len() & 1 == 1;
    edit(&mut draw, &disk, PATH);
    let looked = Folder::look(&disk);
    let (mut folder, opened) = match Folder::open(&disk, &expected(copy_allowed), 6) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!untouched && !error.to_string().is_empty(), "{error}");
            return;
        }
    };
    let identity = folder.identity().clone();
    assert_eq!(looked.ok().flatten().as_ref(), Some(&identity), "looking and opening tell of different folders");
    assert_eq!((identity.cluster, identity.group, identity.name.as_str()), (sample::CLUSTER, sample::GROUP, "a"));
    let start = folder.incarnation().start;
    assert_eq!(opened.incarnation, folder.incarnation());
    if folder.mark_incomplete().is_err() || start == u64::MAX {
        return;
    }
    let (folder, opened) = Folder::open(&disk, &expected(true), 7).expect("what has opened opens again");
    assert_eq!((opened.incarnation.start, opened.was_clean), (start + 1, false), "a start was not counted");
    assert_eq!((folder.state(), folder.identity()), (FolderState::Incomplete, &identity));
}

fn seeds() -> Vec<Seed> {
    vec![
        ("untouched", vec![0]),
        ("a flip", vec![1, 0b100, 9, 1]),
        ("sealed: clean", led(&[1, 0b001, 49, 0, 1], &[1])),
        ("sealed: another name", led(&[1, 0b001, 96, 0, 1], b"b")),
        ("sealed: the length of the name", led(&[1, 0b001, 50, 0, 1], &[64])),
        ("sealed: inode", led(&[1, 0b001, 88, 0, 8], &7_u64.to_le_bytes())),
        ("sealed: starts", led(&[1, 0b001, 72, 0, 8], &u64::MAX.to_le_bytes())),
        ("torn", vec![1, 0b111, 0, 0]),
    ]
}
