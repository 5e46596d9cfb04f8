//! Which file system a path lies on.
//!
//! Figures of durability mean something only on a file system that keeps data when the power fails: the program
//! prints this name beside them, and refuses `tmpfs` where it would measure. Source: statfs(2).

use std::io;
use std::path::Path;

/// The magic numbers of statfs(2). `ext4` stands for its elders too: all three share one number.
const NAMES: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x4d44, "vfat"),
    (0x7366_746e, "ntfs3"),
];

/// The name of the file system that holds `path`, which must exist: `ext4`, `xfs`, `btrfs`, `tmpfs`, `overlay`, ...; for
/// one that is not known here, its magic number in hexadecimal.
///
/// # Errors
/// What the system says.
pub fn filesystem(path: impl AsRef<Path>) -> io::Result<String> {
    let stat = rustix::fs::statfs(path.as_ref())?;
    // The field is signed and of different widths by platform; the magic numbers are 32 bits.
    let magic = stat.f_type as u64 & 0xffff_ffff;
    let known = NAMES.iter().find(|(number, _)| *number == magic);
    Ok(known.map_or_else(|| format!("0x{magic:x}"), |(_, name)| (*name).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_memory_folder_of_linux_is_tmpfs() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(filesystem("/dev/shm").unwrap(), "tmpfs");
        }
        assert!(filesystem("/proc/self/no such file").is_err());
    }
}
