//! Full copies that break off: what is through is not sent again, and whatever happens, the copy ends whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use hotwarm_node::metrics::Metrics;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::Group;

const VALUE_SIZE_BYTES: usize = 4 << 20;
const VALUES: usize = 24;
/// What a copy has at least.
const DATA_SIZE_BYTES: u64 = (VALUE_SIZE_BYTES * VALUES) as u64;
/// What is on its way when a link breaks, and then has to be sent again.
const WINDOW_SIZE_BYTES: u64 = 4 << 20;
/// What a receiver that starts anew may not have on its disk yet: rows that were not loaded, one of them not whole.
const UNSAVED_SIZE_BYTES: u64 = (32 << 20) + 2 * VALUE_SIZE_BYTES as u64;
/// Everything in a copy beside the values.
const REST_SIZE_BYTES: u64 = 1 << 20;

/// A link that is slow enough to be cut in the middle of a copy: stands in front of one node.
struct Proxy {
    open: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Proxy {
    fn start(address: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (open, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (streams, over) = (Arc::clone(&open), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                // The node may not be there: then whoever dials finds a closed connection.
                let (Ok(near), Ok(far)) = (stream, TcpStream::connect(target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    from.set_nodelay(true).unwrap();
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        Self { open, ended, address }
    }

    /// Breaks all connections; new ones are let through.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // It may be over already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Carries bytes one way, 32 MiB a second at most.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(Duration::from_nanos(30 * count as u64));
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn value(index: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(index).unwrap());
    letter.to_string().repeat(VALUE_SIZE_BYTES)
}

/// A group whose log does not reach back to what one node has, which is about to come back over a slow link.
struct Scene {
    group: Group,
    hot: usize,
    late: usize,
    proxy: Proxy,
}

impl Scene {
    fn new() -> Self {
        let history = "history = { time_max = \"1m\", size_max = \"64MiB\" }\n";
        let mut group = Group::start_paced("patient", &["a", "b", "c"], history, "");
        let hot = group.hot();
        group.wait_in_sync(hot, 3);
        let (warm, late) = ((hot + 1) % 3, (hot + 2) % 3);
        group.stop(late);
        let mut client = group.client(warm);
        for index in 0..VALUES {
            assert_eq!(client.ask(&format!("SET large{index} {}", value(index))), "OK");
        }
        group.wait_for(hot, "the store has it", |status| status.node.applied_lsn + 8 > status.node.committed_lsn);
        group.restart(hot);
        let hot = group.hot();
        group.wait_in_sync(hot, 2);
        let proxy = slow_down(&group, late);
        group.start_node(late);
        Self { group, hot, late, proxy }
    }

    fn metrics(&self, index: usize) -> &Metrics {
        &self.group.nodes[index].as_ref().unwrap().control().metrics
    }

    fn sent_size_bytes(&self) -> u64 {
        self.metrics(self.hot).full_sync_sent_bytes.value()
    }

    /// Waits until so much of the copy is through, as the sender knows.
    fn wait_for_copy(&self, size_bytes: u64) {
        self.group.wait_for(self.hot, "the copy goes on", |status| {
            status.full_sync.as_ref().is_some_and(|sync| sync.sending && sync.done_bytes >= size_bytes)
        });
    }

    /// The late node takes over and holds everything.
    fn check_late(self, count: u64) {
        let Self { group, late, .. } = self;
        let hot = group.hot();
        group.wait_in_sync(hot, 3);
        if hot != late {
            group.switch_over(hot, Some(late));
        }
        assert_eq!(group.hot(), late);
        let files = std::fs::read_dir(data_folder(&group, late)).unwrap();
        let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("store-")).count(), 1, "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("incoming")), "{names:?}");
        let mut client = group.client(late);
        for index in 0..VALUES {
            assert!(client.ask(&format!("GET large{index}")) == value(index), "large{index}");
        }
        assert_eq!(client.ask("GET n"), count.to_string());
    }
}

fn name(index: usize) -> char {
    char::from(b'a' + u8::try_from(index).unwrap())
}

fn data_folder(group: &Group, index: usize) -> PathBuf {
    group.config().with_file_name(format!("data-{}", name(index)))
}

/// Puts a slow link in front of a node that does not run.
fn slow_down(group: &Group, index: usize) -> Proxy {
    let name = name(index);
    let text = std::fs::read_to_string(group.config()).unwrap();
    let (_, address) = text.split_once(&format!("{name} = {{ address = \"")).unwrap();
    let address: SocketAddr = address.split_once('"').unwrap().0.parse().unwrap();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let local = format!("[local.node.{name}]\n");
    std::fs::write(group.config(), text.replace(&local, &format!("{local}listen = \"{listen}\"\n"))).unwrap();
    Proxy::start(address, listen)
}

/// Writes while `work` is done; how often.
fn while_writing(scene: &mut Scene, work: impl FnOnce(&mut Scene)) -> u64 {
    let stop = AtomicBool::new(false);
    // The node that is neither late nor hot takes the writes, whoever is hot.
    let mut client = scene.group.client(3 - scene.hot - scene.late);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                assert_eq!(client.ask("INCR n"), count.to_string());
            }
            count
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(scene)));
        stop.store(true, Ordering::Relaxed);
        let count = writer.join().unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        count
    })
}

/// However often the link breaks, each chunk is sent about once.
#[test]
fn a_copy_goes_on_where_the_link_broke() {
    const BREAKS: u64 = 5;
    let mut scene = Scene::new();
    let receives = |scene: &Scene| {
        let info = scene.group.client(scene.late).ask("INFO replication");
        info.lines().find_map(|line| line.strip_prefix("master_sync_in_progress:")).map(str::to_owned)
    };
    let count = while_writing(&mut scene, |scene| {
        for number in 1..=BREAKS {
            scene.wait_for_copy(number * DATA_SIZE_BYTES / (BREAKS + 1));
            assert_eq!(receives(scene).as_deref(), Some("1"));
            scene.proxy.cut();
        }
        scene.group.wait_for(scene.hot, "it is resumed", |status| {
            status.full_sync.as_ref().is_some_and(|sync| sync.resumed_from_bytes > DATA_SIZE_BYTES / 2)
        });
        // Once more while the follower makes the switch, or just before or after it: nothing is sent again for that.
        scene.group.wait_for(scene.hot, "all is through", |status| status.full_sync.is_none());
        scene.proxy.cut();
        scene.group.wait_in_sync(scene.hot, 3);
        assert_eq!(receives(scene).as_deref(), Some("0"));
    });
    let sent = scene.sent_size_bytes();
    let most = DATA_SIZE_BYTES + BREAKS * WINDOW_SIZE_BYTES + REST_SIZE_BYTES;
    assert!((DATA_SIZE_BYTES..=most).contains(&sent), "{sent} bytes were sent, {most} at most are needed");
    assert!((BREAKS..=BREAKS + 1).contains(&scene.metrics(scene.hot).full_syncs_resumed.value()));
    scene.check_late(count);
}

/// A receiver that is started anew has most of what it had.
#[test]
fn a_copy_goes_on_after_a_restart_of_the_receiver() {
    let mut scene = Scene::new();
    let through = DATA_SIZE_BYTES * 3 / 4;
    let count = while_writing(&mut scene, |scene| {
        scene.wait_for_copy(through);
        scene.group.kill(scene.late);
        scene.group.start_node(scene.late);
        scene.group.wait_in_sync(scene.hot, 3);
    });
    let sent = scene.sent_size_bytes();
    let most = DATA_SIZE_BYTES + WINDOW_SIZE_BYTES + UNSAVED_SIZE_BYTES + REST_SIZE_BYTES;
    assert!(most < DATA_SIZE_BYTES + through, "less than if it began anew");
    assert!((DATA_SIZE_BYTES..=most).contains(&sent), "{sent} bytes were sent, {most} at most are needed");
    assert_eq!(scene.metrics(scene.hot).full_syncs_resumed.value(), 1);
    scene.check_late(count);
}

/// What is there is compared with what was sent before a chunk is added: two snapshots are never mixed.
#[test]
fn a_part_that_is_not_of_the_snapshot_is_not_built_on() {
    // The record's header, then the writer's version and count of chunks.
    const DIGEST_AT: usize = 48 + 1 + 8;
    let mut scene = Scene::new();
    let through = DATA_SIZE_BYTES / 2;
    let count = while_writing(&mut scene, |scene| {
        scene.wait_for_copy(through);
        scene.group.kill(scene.late);
        let path = data_folder(&scene.group, scene.late).join("incoming");
        let mut record = std::fs::read(&path).unwrap();
        record[DIGEST_AT] ^= 1;
        let end = record.len() - 4;
        let crc = hotwarm_wire::crc32c(&record[..end]);
        record[end..].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, record).unwrap();
        scene.group.start_node(scene.late);
        scene.group.wait_in_sync(scene.hot, 3);
    });
    let sent = scene.sent_size_bytes();
    assert!(sent >= through + DATA_SIZE_BYTES, "{sent} bytes were sent: not all of it anew");
    assert_eq!(scene.metrics(scene.hot).full_syncs_resumed.value(), 0);
    scene.check_late(count);
}

/// Another hot has pinned another moment: nothing of the first copy is used, and the second one is whole.
#[test]
fn a_copy_starts_anew_under_another_hot() {
    let mut scene = Scene::new();
    let count = while_writing(&mut scene, |scene| {
        scene.wait_for_copy(DATA_SIZE_BYTES / 2);
        scene.group.wait_in_sync(scene.hot, 2);
        scene.group.switch_over(scene.hot, None);
        scene.hot = scene.group.hot();
        scene.group.wait_in_sync(scene.hot, 3);
    });
    assert!(scene.sent_size_bytes() >= DATA_SIZE_BYTES, "all of it is sent");
    assert_eq!(scene.metrics(scene.hot).full_syncs_resumed.value(), 0);
    scene.check_late(count);
}

/// What a late node complains of while its disk has no room for the copy; it stays a follower all the time.
fn wait_for_complaint(scene: &Scene, needed_bytes_min: u64) {
    scene.group.wait_for(scene.late, "it says what it needs", |status| {
        assert!(status.node.fence.is_none(), "{:?}", status.node.fence);
        let folder = data_folder(&scene.group, scene.late).display().to_string();
        let needs = |said: &str| {
            let (_, rest) = said.split_once("needs ")?;
            rest.split_once(" free bytes")?.0.parse::<u64>().ok()
        };
        status.complaints.iter().any(|said| {
            said.contains("full copy") && said.contains(&folder) && needs(said).is_some_and(|n| n >= needed_bytes_min)
        })
    });
}

/// Without room the copy waits, before it begins and in the middle, and the node does not fence itself.
#[test]
fn a_copy_waits_for_room_on_the_disk() {
    let mut scene = Scene::new();
    let count = while_writing(&mut scene, |scene| {
        let board = Arc::clone(&scene.group.nodes[scene.late].as_ref().unwrap().control().board);
        board.space.hide(u64::MAX);
        wait_for_complaint(scene, 1);
        board.space.hide(0);
        scene.wait_for_copy(DATA_SIZE_BYTES / 4);
        assert_eq!(board.space.copy_complaint(), None);
        board.space.hide(u64::MAX);
        wait_for_complaint(scene, 1);
        // What is on its way is taken in once there is room; nothing of it is sent again.
        board.space.hide(0);
        scene.group.wait_in_sync(scene.hot, 3);
        assert_eq!(board.space.copy_complaint(), None);
    });
    let sent = scene.sent_size_bytes();
    let most = DATA_SIZE_BYTES + WINDOW_SIZE_BYTES + REST_SIZE_BYTES;
    assert!((DATA_SIZE_BYTES..=most).contains(&sent), "{sent} bytes were sent, {most} at most are needed");
    scene.check_late(count);
}

/// The tree that a copy fills is not in use: that it cannot be written ends the copy, which begins anew, and not the node.
#[test]
fn a_copy_that_cannot_be_written_begins_anew() {
    let mut scene = Scene::new();
    let count = while_writing(&mut scene, |scene| {
        scene.wait_for_copy(DATA_SIZE_BYTES / 4);
        let files = std::fs::read_dir(data_folder(&scene.group, scene.late)).unwrap();
        let stores = files.map(|file| file.unwrap().path());
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("store-")?.parse::<u64>().ok();
        let newest = stores.filter(|path| number(path).is_some()).max_by_key(number).unwrap();
        std::fs::remove_dir_all(&newest).unwrap();
        scene.group.wait_for(scene.late, "it says so", |status| {
            assert!(status.node.fence.is_none(), "{:?}", status.node.fence);
            status.complaints.iter().any(|said| said.contains("begun anew"))
        });
        scene.group.wait_in_sync(scene.hot, 3);
    });
    assert!(scene.sent_size_bytes() > DATA_SIZE_BYTES + DATA_SIZE_BYTES / 4);
    scene.check_late(count);
}
