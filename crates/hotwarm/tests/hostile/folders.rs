//! Folders that are not this node's, or not what they were: each is refused with the way out, and the group goes on.

use super::client::Witness;
use super::support::{Group, PATIENCE};
use std::path::Path;
use std::time::Instant;

#[test]
fn a_folder_that_is_not_this_nodes_is_refused_with_the_way_out() {
    let mut group = Group::start(&["a", "b", "c"]);
    group.stop(1);
    group.stop(2);
    let (own, aside, other) = (group.data_dir(1), group.data_dir(1).with_extension("aside"), group.data_dir(2));

    std::fs::rename(&own, &aside).unwrap();
    let wiped = group.refusal(1);
    assert!(wiped.contains("its ticket") && wiped.contains("hotwarm node replace"), "{wiped}");

    std::fs::create_dir(&own).unwrap();
    let emptied = group.refusal(1);
    assert!(emptied.contains("hotwarm node replace"), "{emptied}");
    std::fs::remove_dir(&own).unwrap();

    copy(&aside, &own);
    let copied = group.refusal(1);
    assert!(copied.contains("copy of folder") && copied.contains("hotwarm node replace"), "{copied}");
    std::fs::remove_dir_all(&own).unwrap();

    std::fs::rename(&other, &own).unwrap();
    let of_other = group.refusal(1);
    assert!(of_other.contains("belongs to node \"c\"") && of_other.contains("data_dir"), "{of_other}");
    std::fs::rename(&own, &other).unwrap();

    std::fs::rename(&aside, &own).unwrap();
    group.start_node(1);
    group.start_node(2);
    group.wait_in_sync(3);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts older content into the files of a folder, as a restored snapshot of its disk would.
fn roll_back(own: &Path, old: &Path) {
    for entry in std::fs::read_dir(own).unwrap() {
        let path = entry.unwrap().path();
        let before = old.join(path.file_name().unwrap());
        if !before.exists() {
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        } else if path.is_dir() {
            roll_back(&path, &before);
        } else {
            // The same file with other bytes in it: by its number it is no copy.
            std::fs::write(&path, std::fs::read(&before).unwrap()).unwrap();
        }
    }
    for entry in std::fs::read_dir(old).unwrap() {
        let (before, path) = entry.map(|entry| (entry.path(), own.join(entry.file_name()))).unwrap();
        match (path.exists(), before.is_dir()) {
            (true, _) => {}
            (false, true) => copy(&before, &path),
            (false, false) => drop(std::fs::copy(&before, &path).unwrap()),
        }
    }
}

/// What this node had promised since is forgotten in the folder, and remembered by the others (R5).
#[test]
fn an_older_copy_of_a_nodes_own_folder_is_found_out_by_the_others() {
    let mut group = Group::start(&["a", "b", "c"]);
    let (own, old) = (group.data_dir(1), group.data_dir(1).with_extension("old"));
    group.stop(1);
    copy(&own, &old);
    group.start_node(1);
    group.wait_in_sync(3);
    let hot = group.hot();
    if hot == 1 {
        group.switch_over();
    }
    let mut client = Witness::connect(group.nodes[0].front);
    assert_eq!(client.ask("SET k since"), "OK");
    group.stop(1);
    group.wait_in_sync(2);

    roll_back(&own, &old);
    let seen_before = group.log(1).len();
    group.start_node(1);
    let began = Instant::now();
    while !group.log(1)[seen_before..].contains("hotwarm node replace b") {
        assert!(began.elapsed() < PATIENCE, "nobody says what to do: {}", &group.log(1)[seen_before..]);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut status = group.status(1).unwrap();
    while !status.complaints.iter().any(|complaint| complaint.contains("\"hotwarm node replace b\"")) {
        assert!(began.elapsed() < PATIENCE, "status does not say what to do: {status:#?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
        status = group.status(1).unwrap();
    }
    assert!(!status.node.serves, "{status:#?}");
    let of_hot = group.status(group.hot()).unwrap();
    let is_in_sync = |name: &str| of_hot.members.iter().any(|member| member.name == name && member.in_sync);
    assert!(!is_in_sync("b") && is_in_sync("a") && is_in_sync("c"), "{of_hot:#?}");
    assert_eq!(client.ask("GET k"), "since");
    assert!(!group.log(1).contains("panicked"), "{}", group.log(1));
}

/// The same in short as `hotwarm-node/tests/damage.rs`, as an operator meets it: exit code, file, way out.
#[test]
fn a_damaged_file_keeps_a_node_from_starting_and_is_named() {
    let mut group = Group::start(&["a"]);
    assert_eq!(Witness::connect(group.nodes[0].front).ask("SET k v"), "OK");
    group.stop(0);
    let folder = group.data_dir(0);
    let store = folder.join("store-1");
    let segment = std::fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.to_string_lossy().ends_with("1.log")).min().unwrap();
    let table = store.join("tables/0");
    let list = folder.join("store-1/v1");
    for (path, offset) in
        [(folder.join("identity"), 20), (folder.join("log/head"), 40), (segment, 560), (table, 3), (list, 9)]
    {
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[offset] ^= 4;
        std::fs::write(&path, flipped).unwrap();
        let said = group.refusal(0);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let part = if path.starts_with(&store) { "store" } else { name.as_str() };
        assert!(said.contains(part) && said.contains("hotwarm node replace"), "{name}: {said}");
        std::fs::write(&path, whole).unwrap();
    }
    group.start_node(0);
    group.wait_in_sync(1);
    assert_eq!(Witness::connect(group.nodes[0].front).ask("GET k"), "v");
}
