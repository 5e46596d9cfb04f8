//! A node's disk: an ext4 file system of its own, in an image file, so that it can be full, slow, lost or old alone.

use crate::tools::run;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Size of the image; it takes what is written to it.
const SIZE_BYTES: u64 = 3 << 30;
/// What fills the disk, besides the node.
const BALLAST: &str = "ballast";

/// One disk; it is unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    /// The block device, as `major:minor`.
    device: String,
}

impl Disk {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// A tool says why not.
    pub fn make(folder: &Path, name: &str) -> Result<Self, String> {
        let image = folder.join(format!("{name}.ext4"));
        let mount = folder.join("disks").join(name);
        let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(&mount).map_err(|error| told(&mount, error))?;
        let file = File::create_new(&image).map_err(|error| told(&image, error))?;
        file.set_len(SIZE_BYTES).map_err(|error| told(&image, error))?;
        let (image, place) = (image.display().to_string(), mount.display().to_string());
        run("mkfs.ext4", &["-q", "-F", &image])?;
        run("mount", &["-o", "loop", &image, &place])?;
        let device = run("findmnt", &["--noheadings", "--output", "MAJ:MIN", "--mountpoint", &place])?;
        Ok(Self { mount, device: device.trim().to_owned() })
    }

    /// The node's data folder.
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Where a copy of an old data folder is kept: on the same disk, as a snapshot of a machine would be.
    pub fn old_data(&self) -> PathBuf {
        self.mount.join("old")
    }

    /// The block device, as control groups name it.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Leaves only so many bytes of room.
    ///
    /// # Errors
    /// The room cannot be taken.
    pub fn fill(&self, left_bytes: u64) -> Result<(), String> {
        let path = self.mount.join(BALLAST);
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let room = rustix::fs::statvfs(&self.mount).map_err(|error| told(&error))?;
        let size = (room.f_bavail * room.f_frsize).saturating_sub(left_bytes);
        let file = File::create(&path).map_err(|error| told(&error))?;
        let whole = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size);
        whole.map_err(|error| told(&error))
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&self) -> Result<(), String> {
        let path = self.mount.join(BALLAST);
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[&self.mount.display().to_string()]) {
            eprintln!("torture: {error}");
        }
    }
}
