//! What both disks promise, and what only the failing one does.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hotwarm_disk::{
    Call, Crash, Disk, DiskFile, Fault, FaultDisk, FaultError, OpenMode, OsDisk, SECTOR_SIZE_BYTES, read_exact_at,
};
use std::io::ErrorKind;
use std::sync::Arc;

/// Runs a check on the real disk and on the one in memory.
fn on_both(check: impl Fn(&dyn Disk)) {
    let folder = tempfile::tempdir().unwrap();
    check(&OsDisk::new(folder.path().join("root")).unwrap());
    check(&FaultDisk::new(1));
}

fn read_all(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.size().unwrap() as usize];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

fn write_new(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path, OpenMode::New).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

#[test]
fn positioned_reads_and_writes() {
    on_both(|disk| {
        let file = write_new(disk, "a", b"hello world");
        file.write_at(b"W", 6).unwrap();
        file.write_at(b"!", 12).unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_all(&*file), b"hello World\0!");
        let mut buffer = [9; 4];
        assert_eq!(file.read_at(&mut buffer, 11).unwrap(), 2);
        assert_eq!(buffer, [0, b'!', 9, 9]);
        assert_eq!(file.read_at(&mut buffer, 100).unwrap(), 0);
        assert_eq!(read_exact_at(&*file, &mut buffer, 11).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_size(5).unwrap();
        assert_eq!(read_all(&*file), b"hello");
    });
}

#[test]
fn allocation_writes_zeros_and_keeps_what_is_there() {
    on_both(|disk| {
        let file = write_new(disk, "a", b"x");
        let size = (300 << 10) + 7;
        file.allocate_zeroed(size).unwrap();
        file.sync_data().unwrap();
        let bytes = read_all(&*file);
        assert_eq!(bytes.len() as u64, size);
        assert_eq!(bytes[0], b'x');
        assert!(bytes[1..].iter().all(|byte| *byte == 0));
        file.allocate_zeroed(1).unwrap();
        assert_eq!(file.size().unwrap(), size);
    });
}

#[test]
fn names_come_change_and_go() {
    on_both(|disk| {
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        write_new(disk, "d/b", b"1");
        write_new(disk, "d/a", b"2");
        assert_eq!(disk.open("d/a", OpenMode::New).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.open("d/c", OpenMode::Existing).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.open("e/c", OpenMode::New).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list("d").unwrap(), ["a", "b"]);
        let open = disk.open("d/b", OpenMode::Existing).unwrap();
        let inode = open.inode().unwrap();
        disk.rename("d/a", "d/b").unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!(read_all(&*disk.open("d/b", OpenMode::Existing).unwrap()), b"2");
        assert_ne!(disk.open("d/b", OpenMode::Existing).unwrap().inode().unwrap(), inode);
        assert_eq!(read_all(&*open), b"1", "a replaced file lives on in its handle");
        disk.remove("d/b").unwrap();
        assert_eq!(disk.remove("d/b").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!disk.exists("d/b").unwrap());
        assert!(disk.exists("d").unwrap());
        assert_eq!(disk.list("").unwrap(), ["d"]);
        assert_eq!(disk.list("e").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.open("../x", OpenMode::New).unwrap_err().kind(), ErrorKind::InvalidInput);
        let space = disk.space().unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes);
    });
}

#[test]
fn a_power_failure_takes_what_was_not_synced() {
    let disk = FaultDisk::new(1);
    let file = write_new(&disk, "a", b"old");
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(b"new", 0).unwrap();
    write_new(&disk, "b", b"x").sync_data().unwrap();
    disk.crash(Crash::Lost);
    assert_eq!(disk.bytes("a").unwrap(), b"old");
    assert!(!disk.exists("b").unwrap(), "its name was not synced");
    assert!(file.size().is_err(), "handles die with their process");
}

#[test]
fn a_killed_process_loses_nothing_and_makes_nothing_durable() {
    let disk = FaultDisk::new(1);
    let file = write_new(&disk, "a", b"old");
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(b"new", 0).unwrap();
    disk.crash(Crash::Process);
    assert_eq!(disk.bytes("a").unwrap(), b"new");
    disk.crash(Crash::Lost);
    assert_eq!(disk.bytes("a").unwrap(), b"old");
}

#[test]
fn a_torn_write_is_torn_at_sectors() {
    let old = vec![1; 8 * SECTOR_SIZE_BYTES];
    let new = vec![2; 8 * SECTOR_SIZE_BYTES];
    let mut mixed = 0;
    for seed in 0..50 {
        let disk = FaultDisk::new(seed);
        disk.put("a", &old);
        disk.open("a", OpenMode::Existing).unwrap().write_at(&new, 0).unwrap();
        disk.crash(Crash::Torn);
        let bytes = disk.bytes("a").unwrap();
        assert!(bytes.chunks(SECTOR_SIZE_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        mixed += u32::from(bytes != old && bytes != new);
    }
    assert!(mixed > 40, "{mixed}");
}

#[test]
fn a_failed_sync_drops_data_and_the_next_one_lies() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = FaultDisk::new(seed);
        disk.put("a", &[1; 4 * SECTOR_SIZE_BYTES]);
        let file = disk.open("a", OpenMode::Existing).unwrap();
        file.write_at(&[2; 4 * SECTOR_SIZE_BYTES], 0).unwrap();
        disk.fail(Fault::nth(1, FaultError::Io).of(Call::SyncData));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(read_all(&*file), [2; 4 * SECTOR_SIZE_BYTES], "the process still reads what it wrote");
        disk.crash(Crash::Lost);
        lost += u32::from(disk.bytes("a").unwrap() != [2; 4 * SECTOR_SIZE_BYTES]);
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn faults_are_planned_by_number_kind_and_path() {
    let disk = FaultDisk::new(1);
    let a = write_new(&disk, "a", b"1");
    let b = write_new(&disk, "b", b"1");
    let before = disk.calls();
    disk.fail(Fault::nth(2, FaultError::NoSpace).of(Call::WriteAt).on("b").lasting());
    a.write_at(b"2", 0).unwrap();
    b.write_at(b"2", 0).unwrap();
    a.write_at(b"2", 0).unwrap();
    assert_eq!(b.write_at(b"2", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(b.write_at(b"2", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.faults_shown(), 2);
    disk.heal();
    b.write_at(b"2", 0).unwrap();
    assert_eq!(disk.calls() - before, 6);
    disk.fail(Fault::nth(1, FaultError::Io));
    assert_eq!(a.size().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(a.size().unwrap(), 1);
}

#[test]
fn a_full_disk_says_so() {
    let disk = FaultDisk::new(1);
    disk.set_capacity(10);
    let file = write_new(&disk, "a", b"12345678");
    assert_eq!(file.write_at(b"90123", 8).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate_zeroed(11).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(b"9", 8).unwrap();
    assert_eq!(disk.space().unwrap().free_bytes, 1);
}

#[test]
fn a_process_that_dies_gets_so_many_changes_done() {
    let disk = FaultDisk::new(1);
    let file = write_new(&disk, "a", b"1");
    disk.sync_dir("").unwrap();
    disk.die_after(2);
    file.write_at(b"2", 0).unwrap();
    assert_eq!(file.size().unwrap(), 1, "looking costs nothing");
    file.sync_data().unwrap();
    for done in [file.write_at(b"3", 0), file.sync_data(), disk.rename("a", "b"), disk.sync_dir("")] {
        assert!(done.is_err());
    }
    disk.crash(Crash::Process);
    assert_eq!(disk.bytes("a").unwrap(), b"2");
    disk.rename("a", "b").unwrap();
}

/// One durable file with two writes on it that are not synced, and a name that is not.
fn unsynced() -> FaultDisk {
    let disk = FaultDisk::new(1);
    disk.put("a", &[1; 3 * SECTOR_SIZE_BYTES]);
    let file = disk.open("a", OpenMode::Existing).unwrap();
    file.write_at(&[2; SECTOR_SIZE_BYTES], 0).unwrap();
    disk.rename("a", "b").unwrap();
    disk.create_dir("d").unwrap();
    file.write_at(&[3; SECTOR_SIZE_BYTES], 2 * SECTOR_SIZE_BYTES as u64).unwrap();
    disk
}

#[test]
fn power_takes_any_part_of_what_was_not_synced() {
    for (crash, expected, path, folder) in [
        (Crash::Lost, [1, 1, 1], "a", false),
        (Crash::Kept, [2, 1, 3], "b", true),
        (Crash::Last, [1, 1, 3], "a", true),
        (Crash::Names, [1, 1, 1], "b", true),
        (Crash::Data, [2, 1, 3], "a", false),
    ] {
        let disk = unsynced();
        disk.crash(crash);
        let bytes = disk.bytes(path).unwrap();
        let sectors: Vec<u8> = bytes.chunks(SECTOR_SIZE_BYTES).map(|sector| sector[0]).collect();
        assert_eq!(sectors, expected, "{crash:?}");
        assert_eq!(disk.exists("d").unwrap(), folder, "{crash:?}");
        disk.crash(Crash::Lost);
        assert_eq!(disk.bytes(path).unwrap(), bytes, "{crash:?}: what is left is durable");
    }
}

#[test]
fn a_frozen_disk_crashes_apart_from_its_source() {
    let disk = unsynced();
    for seed in 0..20 {
        let frozen = disk.freeze(seed);
        frozen.crash(Crash::OF_POWER[seed as usize % Crash::OF_POWER.len()]);
    }
    let bytes = disk.bytes("b").unwrap();
    assert_eq!((bytes[0], bytes[2 * SECTOR_SIZE_BYTES]), (2, 3));
    disk.crash(Crash::Lost);
    assert_eq!(disk.bytes("a").unwrap(), [1; 3 * SECTOR_SIZE_BYTES]);
}

#[test]
fn only_an_empty_folder_can_be_removed() {
    let disk = FaultDisk::new(1);
    disk.create_dir("d").unwrap();
    write_new(&disk, "d/a", b"1");
    assert_eq!(disk.remove_dir("d").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(disk.remove_dir("d/a").unwrap_err().kind(), ErrorKind::NotADirectory);
    disk.remove("d/a").unwrap();
    disk.remove_dir("d").unwrap();
    assert_eq!(disk.remove_dir("d").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!((disk.folders().len(), disk.files().len()), (0, 0));
}

#[test]
fn a_misdirected_write_reports_success() {
    let disk = FaultDisk::new(1);
    disk.put("a", &[1; 4 * SECTOR_SIZE_BYTES]);
    let file = disk.open("a", OpenMode::Existing).unwrap();
    disk.misdirect("a", SECTOR_SIZE_BYTES as u64);
    file.write_at(&[2; 8], 0).unwrap();
    file.write_at(&[3; 8], 2 * SECTOR_SIZE_BYTES as u64).unwrap();
    let bytes = disk.bytes("a").unwrap();
    let sectors: Vec<u8> = bytes.chunks(SECTOR_SIZE_BYTES).map(|sector| sector[0]).collect();
    assert_eq!(sectors, [1, 2, 3, 1]);
    assert_eq!(disk.faults_shown(), 1);
}

#[test]
fn a_folder_that_is_lost_takes_all_below_it() {
    let disk = FaultDisk::new(1);
    disk.create_dir("d").unwrap();
    disk.create_dir("d/e").unwrap();
    write_new(&disk, "d/e/a", b"1").sync_data().unwrap();
    disk.sync_dir("d/e").unwrap();
    disk.sync_dir("d").unwrap();
    let kept = disk.freeze(1);
    kept.sync_dir("").unwrap();
    kept.crash(Crash::Lost);
    assert_eq!(kept.bytes("d/e/a").unwrap(), b"1");
    disk.crash(Crash::Lost);
    assert_eq!((disk.folders().len(), disk.files().len()), (0, 0));
}
