//! A guardian, a shell in the place of the node, and a listener in the place of a peer: what is attested, when, and
//! what is not. Guards R20.
#![expect(clippy::unwrap_used, reason = "in a test's helper a failure is the test's")]

use hotwarm_node::guardian::guard;
use hotwarm_types::{ClusterId, FolderId, GroupId, Incarnation};
use hotwarm_wire::{DeathFrame, DeathNotice};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A guardian waits for all children of its process and gets its process's signals: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

const TIMEOUT: Duration = Duration::from_secs(10);

const NOTICE: DeathNotice = DeathNotice {
    cluster: ClusterId(0xc1),
    group: GroupId(1),
    folder: FolderId(0x0a),
    incarnation: Incarnation { start: 3, nonce: 99 },
};

/// A guardian on a thread, its node a shell, and a peer's port.
struct Scene {
    peer: TcpListener,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { peer: TcpListener::bind("127.0.0.1:0").unwrap(), folder: tempfile::tempdir().unwrap(), _alone: alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a node that notes its digest, says who it is and where its peer is, and then runs `rest`.
    fn guard(&self, rest: &str) -> JoinHandle<i32> {
        let script = format!(
            "read -r _ _ digest; printf %s \"$digest\" > digest; \
             printf 'identity {} 1 a {} 3 99\\npeers {}\\n' >&0; {rest}",
            NOTICE.cluster,
            NOTICE.folder,
            self.peer.local_addr().unwrap(),
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(self.folder.path());
        thread::spawn(move || guard(command).unwrap())
    }

    /// The guardian's connection, once it has said whom it watches.
    fn connection(&self) -> TcpStream {
        let (mut stream, _) = self.peer.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut notice = [0; DeathNotice::SIZE_BYTES];
        stream.read_exact(&mut notice).unwrap();
        assert_eq!(DeathNotice::decode(&notice), Ok(NOTICE));
        stream
    }

    /// Reads what follows the notice; checks that it proves the death, and takes it.
    fn expect_proof(&self, mut stream: TcpStream) {
        let mut bytes = [0; DeathFrame::SIZE_BYTES];
        bytes[..DeathNotice::SIZE_BYTES].copy_from_slice(&NOTICE.encode());
        stream.read_exact(&mut bytes[DeathNotice::SIZE_BYTES..]).unwrap();
        let frame = DeathFrame::decode(&bytes).unwrap();
        assert_eq!(frame.notice, NOTICE);
        let shown: String = Sha256::digest(frame.secret).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, fs::read_to_string(self.path("digest")).unwrap());
        stream.write_all(&[DeathFrame::TAKEN]).unwrap();
    }

    /// Waits until the node has written a whole line to a file.
    fn line_of(&self, name: &str) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            match fs::read_to_string(self.path(name)) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                Ok(_) | Err(_) => assert!(Instant::now() < until, "{name} was not written"),
            }
            thread::yield_now();
        }
    }
}

fn exists(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

/// Sends a signal without starting a process: a guardian would take it for one of its node's.
fn kill_here(pid: &str) {
    hotwarm_sys::kill(pid.parse().unwrap()).unwrap();
}

#[test]
fn a_killed_node_is_attested_at_once() {
    let scene = Scene::new();
    let guardian = scene.guard("echo $$ > pid; exec sleep 1000");
    let stream = scene.connection();
    let pid = scene.line_of("pid");
    let killed = Instant::now();
    kill_here(&pid);
    scene.expect_proof(stream);
    let took = killed.elapsed();
    println!("from SIGKILL to the proof at the peer: {took:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(!exists(&pid), "reaped before it was attested");
    assert_eq!(guardian.join().unwrap(), 137);
}

#[test]
fn nothing_that_the_node_ran_outlives_its_attestation() {
    let scene = Scene::new();
    // One in the node's group, one in a session of its own, one whose parent is gone already.
    let guardian = scene.guard(
        "sleep 1000 & echo $! > child; \
         setsid sh -c 'sleep 1000 & echo $! > grandchild; wait' & echo $! > stray; \
         (setsid sh -c 'echo $$ > orphan; exec sleep 1000' &); \
         echo $$ > pid; wait",
    );
    let stream = scene.connection();
    let left: Vec<String> = ["child", "grandchild", "stray", "orphan"].map(|name| scene.line_of(name)).into();
    assert!(left.iter().all(|pid| exists(pid)));
    kill_here(&scene.line_of("pid"));
    scene.expect_proof(stream);
    assert!(!left.iter().any(|pid| exists(pid)), "{left:?}");
    assert_eq!(guardian.join().unwrap(), 137);
}

#[test]
fn an_orphan_that_ends_earlier_is_reaped_and_attests_nothing() {
    let scene = Scene::new();
    let guardian = scene.guard("(sh -c 'echo $$ > orphan; exec sleep 1000' &); echo $$ > pid; exec sleep 1000");
    let stream = scene.connection();
    let orphan = scene.line_of("orphan");
    kill_here(&orphan);
    let until = Instant::now() + TIMEOUT;
    while exists(&orphan) {
        assert!(Instant::now() < until, "the orphan was not reaped");
        thread::yield_now();
    }
    let pid = scene.line_of("pid");
    assert!(exists(&pid));
    kill_here(&pid);
    scene.expect_proof(stream);
    assert_eq!(guardian.join().unwrap(), 137);
}

#[test]
fn a_node_that_failed_is_attested_and_its_code_passed_on() {
    let scene = Scene::new();
    let guardian = scene.guard("exit 3");
    scene.expect_proof(scene.connection());
    assert_eq!(guardian.join().unwrap(), 3);
}

#[test]
fn peers_may_be_told_before_the_identity_and_the_node_may_die_right_after() {
    let scene = Scene::new();
    let address = scene.peer.local_addr().unwrap();
    let script = format!(
        "read -r _ _ digest; printf %s \"$digest\" > digest; printf 'peers {address}\\nidentity {} 1 a {} 3 99\\n' >&0; \
         kill -9 $$",
        NOTICE.cluster, NOTICE.folder
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).current_dir(scene.folder.path());
    let guardian = thread::spawn(move || guard(command).unwrap());
    scene.expect_proof(scene.connection());
    assert_eq!(guardian.join().unwrap(), 137);
}

#[test]
fn a_goodbye_is_not_followed_by_an_attestation() {
    let scene = Scene::new();
    let guardian = scene.guard("trap 'exit 0' TERM; echo $$ > pid; while :; do sleep 1000 & wait; done");
    let mut stream = scene.connection();
    let pid: u32 = scene.line_of("pid").parse().unwrap();
    hotwarm_sys::signal(pid, hotwarm_sys::Signal::TERM).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes after the notice", rest.len());
    assert_eq!(guardian.join().unwrap(), 0);
}

#[test]
fn a_signal_to_the_guardian_reaches_the_node() {
    let scene = Scene::new();
    let guardian = scene.guard("trap 'exit 0' TERM; echo $$ > pid; while :; do sleep 1000 & wait; done");
    let _stream = scene.connection();
    scene.line_of("pid");
    hotwarm_sys::signal(std::process::id(), hotwarm_sys::Signal::TERM).unwrap();
    assert_eq!(guardian.join().unwrap(), 0);
}

#[test]
fn a_peer_whose_connection_broke_is_told_on_a_new_one() {
    let scene = Scene::new();
    let guardian = scene.guard("echo $$ > pid; exec sleep 1000");
    drop(scene.connection());
    let stream = scene.connection();
    kill_here(&scene.line_of("pid"));
    scene.expect_proof(stream);
    guardian.join().unwrap();
}

#[test]
fn a_frozen_node_is_killed_with_all_it_ran_and_attested() {
    let scene = Scene::new();
    let guardian = scene.guard("sleep 1000 & echo $! > child; echo $$ > pid; printf 'tick 200\\n' >&0; kill -STOP $$");
    let stream = scene.connection();
    let child = scene.line_of("child");
    scene.expect_proof(stream);
    assert!(!exists(&child));
    assert_eq!(guardian.join().unwrap(), 137);
}

#[test]
fn a_node_that_says_no_more_is_not_taken_for_frozen_and_its_death_attested_all_the_same() {
    let scene = Scene::new();
    // It ends by itself once it is well past its last tick.
    let guardian = scene.guard("printf 'tick 100\\n' >&0; exec 0</dev/null; sleep 1; exit 3");
    scene.expect_proof(scene.connection());
    assert_eq!(guardian.join().unwrap(), 3);
}

#[test]
fn a_node_that_never_says_who_it_is_is_not_attested() {
    let scene = Scene::new();
    scene.peer.set_nonblocking(true).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "printf 'peers %s\\nnonsense\\n' \"$PEER\" >&0; exit 2"]);
    command.env("PEER", scene.peer.local_addr().unwrap().to_string());
    assert_eq!(guard(command).unwrap(), 2);
    assert_eq!(scene.peer.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let _scene = Scene::new();
    let error = guard(Command::new("/nonexistent/hotwarm")).unwrap_err();
    assert_eq!(error.to_string(), "start the node by \"/nonexistent/hotwarm\"");
}
