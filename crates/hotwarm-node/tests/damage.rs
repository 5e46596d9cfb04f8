//! A small data folder with its bytes flipped in turn: a start refuses it with the file's name and the way out, or finds
//! exactly what was there. Guards INV-9, INV-12.
//!
//! Each byte is flipped of every sector of the log that is not blank, one of its bits in turn; of another file's, if there
//! are many, every so many bytes, and another rotation of them with each `HOTWARM_DAMAGE_SEED`. Of the blank sectors, which
//! a preallocated file has many of, a few places are flipped.
#![expect(clippy::unwrap_used, reason = "in a test's helper a failure is the test's")]

use hotwarm_disk::OsDisk;
use hotwarm_log::{Log, LogOptions};
use hotwarm_node::birth::{Birth, InitPlan, NodePlan};
use hotwarm_node::config::{Config, File};
use hotwarm_node::data_folder::DataFolder;
use hotwarm_node::run::RunningNode;
use hotwarm_store::keyspace::Keyspace;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Flips in the sectors of one file beside the log that are not blank, about.
const FLIPS: usize = 250;
/// Flips in the blank sectors of one file, about.
const BLANK_FLIPS: usize = 8;
const SECTOR_SIZE_BYTES: usize = 512;
const MEMORY_SIZE_BYTES: u64 = 16 << 20;

/// A file as it was: what is in it, up to the zeros at its end, and its length.
struct Saved {
    begin: Vec<u8>,
    size_bytes: u64,
}

/// A stopped node's folder, which can be brought back to what it was. The files stay the same ones: a folder with other
/// files is known as a copy.
struct Folder {
    _root: TempDir,
    tls_dir: PathBuf,
    data_dir: PathBuf,
    files: BTreeMap<PathBuf, Saved>,
}

/// What a start gets out of a folder.
#[derive(Debug, PartialEq)]
struct Found {
    vote: String,
    end: String,
    values: Vec<Option<String>>,
}

fn keys() -> impl Iterator<Item = String> {
    (0..12).map(|number| format!("key-{number}")).chain(["gone".to_owned(), "never".to_owned()])
}

impl Folder {
    /// Lets a node of its own write something and stop.
    fn make() -> Self {
        // In memory where that is possible: each start syncs, and this is not about the disk.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (tls_dir, data_dir) = (root.path().join("tls/a"), root.path().join("data"));
        let config = config(root.path(), &tls_dir, &data_dir);
        let birth = Birth::consume(&tls_dir, &data_dir).unwrap();
        // The smallest segments, so that the search for records behind a damaged one is short.
        let options = LogOptions { segment_size_bytes: 64 << 10, ..LogOptions::new(birth.cluster, birth.group) };
        drop(Log::create(Arc::new(OsDisk::new(&data_dir).unwrap()), "log", options).unwrap());

        let node = RunningNode::start(config, None).unwrap_or_else(|error| panic!("{error}"));
        let mut client = TcpStream::connect(node.fronts()[0]).unwrap();
        for (number, key) in keys().take(13).enumerate() {
            write!(client, "SET {key} value-{number}\r\n").unwrap();
        }
        client.write_all(b"DEL gone\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).unwrap();
        assert_eq!(replies.lines().filter(|line| *line == "+OK").count(), 13, "{replies}");
        assert_eq!(format!("{:?}", node.stop()), format!("{:?}", std::process::ExitCode::SUCCESS));

        let mut folder = Self { _root: root, tls_dir, data_dir, files: BTreeMap::new() };
        folder.files = folder.present().into_iter().map(|path| (path.clone(), Saved::of(&path))).collect();
        folder
    }

    /// All files, but the lock, the events and segments that were made ahead and hold nothing.
    fn present(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.data_dir.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    fn restore(&self) {
        for path in self.present().iter().filter(|path| !self.files.contains_key(*path)) {
            std::fs::remove_file(path).unwrap();
        }
        for (path, saved) in &self.files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = std::fs::File::options().create(true).truncate(true).write(true).open(path).unwrap();
            file.set_len(saved.size_bytes).unwrap();
            file.write_all_at(&saved.begin, 0).unwrap();
        }
    }

    fn flip(&self, path: &Path, offset: u64, bits: u8) {
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ bits], offset).unwrap();
    }

    /// What a start finds, or why it refuses.
    fn open(&self) -> Result<Found, String> {
        let opened = DataFolder::open(&self.data_dir, &self.tls_dir, "a", None, 1, MEMORY_SIZE_BYTES);
        let (_folder, contents) = opened.map_err(|error| error.to_string())?;
        let mut state = contents.state;
        let end = contents.recovered.log_end;
        state.commit(end.lsn).map_err(|error| format!("while it is read: {error}"))?;
        let mut view = state.committed_view(0);
        let values = keys().map(|key| view.get(key.as_bytes()).map(|entry| format!("{:?}", entry.value))).collect();
        view.finish().map_err(|error| format!("while it is read: {error}"))?;
        Ok(Found { vote: format!("{:?}", contents.recovered.vote), end: format!("{end:?}"), values })
    }
}

impl Saved {
    fn of(path: &Path) -> Self {
        let mut begin = std::fs::read(path).unwrap();
        let size_bytes = begin.len() as u64;
        let used = begin.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        begin.truncate(used);
        Self { begin, size_bytes }
    }

    /// Where it is flipped.
    fn offsets(&self, every_byte: bool, seed: usize) -> Vec<u64> {
        let is_blank = |offset: &usize| {
            let sector = offset / SECTOR_SIZE_BYTES * SECTOR_SIZE_BYTES;
            self.begin.iter().skip(sector).take(SECTOR_SIZE_BYTES).all(|byte| *byte == 0)
        };
        let (blank, used): (Vec<usize>, Vec<usize>) = (0..self.size_bytes as usize).partition(is_blank);
        let some = |all: Vec<usize>, count: usize| {
            let stride = all.len().div_ceil(count).max(1);
            all.into_iter().skip(seed % stride).step_by(stride)
        };
        some(used, if every_byte { usize::MAX } else { FLIPS })
            .chain(some(blank, BLANK_FLIPS))
            .map(|offset| offset as u64)
            .collect()
    }
}

fn config(root: &Path, tls_dir: &Path, data_dir: &Path) -> Config {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[cluster]\nname = \"test\"\nprofile = \"fast\"\n[nodes]\na = {{ address = \"127.0.0.1:{port}\" }}\n\
         [local]\ndata_dir = {data_dir:?}\ntls_dir = {tls_dir:?}\nadmin = \"127.0.0.1:0\"\n[group.main]\n\
         [front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:0\"\nto = \"main\"\n"
    );
    let path = root.join("hotwarm.toml");
    let config = File::parse(&text, &path).unwrap_or_else(|faults| panic!("{faults}")).for_node("a", "test").unwrap();
    let node = &config.nodes[0];
    let node =
        NodePlan { name: node.name.clone(), address: node.address.clone(), role: node.role, priority: node.priority };
    let plan = InitPlan { cluster_name: "test".into(), nodes: vec![node], settings: config.agreed.settings() };
    plan.write(tls_dir.parent().unwrap()).unwrap();
    config
}

#[test]
fn a_folder_with_any_byte_flipped_is_refused_by_name_or_read_right() {
    let seed: usize = std::env::var("HOTWARM_DAMAGE_SEED").map_or(0, |seed| seed.parse().unwrap());
    let folder = Folder::make();
    folder.restore();
    let right = folder.open().unwrap();
    assert_eq!(right.values.iter().filter(|value| value.is_some()).count(), 12, "{right:?}");
    let mut wrong = Vec::new();
    for (path, saved) in &folder.files {
        let name = path.strip_prefix(&folder.data_dir).unwrap().display().to_string();
        let (mut refused, mut harmless) = (0, 0);
        for (count, offset) in saved.offsets(name.ends_with(".log"), seed).into_iter().enumerate() {
            folder.restore();
            folder.flip(path, offset, 1 << (count % 8));
            match catch_unwind(AssertUnwindSafe(|| folder.open())) {
                Ok(Ok(found)) if found == right => harmless += 1,
                Ok(Ok(found)) => wrong.push(format!("{name} at {offset}: {found:?}")),
                Ok(Err(why)) => {
                    refused += 1;
                    if !is_clear(&why, &name) {
                        wrong.push(format!("{name} at {offset} is refused without the file or the way out: {why}"));
                    }
                }
                Err(_) => wrong.push(format!("{name} at {offset}: a panic")),
            }
        }
        println!("{name}: {refused} flips refused, {harmless} harmless");
    }
    assert!(wrong.is_empty(), "seed {seed}, {} of them:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// As an operator's slip leaves it, or a repair of the disk's file system.
#[test]
fn a_folder_without_any_one_of_its_files_is_refused_by_name_or_read_right() {
    let folder = Folder::make();
    folder.restore();
    let right = folder.open().unwrap();
    let aside = folder.data_dir.parent().unwrap().join("aside");
    // Without the record of whose it is, it is the folder as a whole that is refused.
    let root = folder.data_dir.display().to_string();
    let is_unknown = |why: &str| why.contains(&root) && why.contains("hotwarm node replace");
    let mut wrong = Vec::new();
    for path in folder.files.keys() {
        let name = path.strip_prefix(&folder.data_dir).unwrap().display().to_string();
        folder.restore();
        // Moved away and back, it stays the same file.
        std::fs::rename(path, &aside).unwrap();
        match catch_unwind(AssertUnwindSafe(|| folder.open())) {
            Ok(Ok(found)) if found == right => println!("{name}: harmless"),
            Ok(Ok(found)) => wrong.push(format!("{name}: {found:?}")),
            Ok(Err(why)) if is_clear(&why, &name) || is_unknown(&why) => println!("{name}: refused"),
            Ok(Err(why)) => wrong.push(format!("{name} is refused without the file or the way out: {why}")),
            Err(_) => wrong.push(format!("{name}: a panic")),
        }
        std::fs::rename(&aside, path).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a refusal names what is broken and says what to do.
fn is_clear(why: &str, name: &str) -> bool {
    let part = name.split('/').next().unwrap();
    let part = if part.starts_with("store-") { "store" } else { part };
    why.contains(part) && why.contains("hotwarm node replace")
}
