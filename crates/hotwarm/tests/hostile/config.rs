//! Each key of the configuration wrong in turn: by a shell's `check` and `apply`, and by the API that `apply` uses.
//!
//! Which keys there are is asked of the program, so that a key that is new cannot be forgotten here, nor in the docs.

use super::client::Witness;
use super::support::{Group, hotwarm, text_of};
use hotwarm_node::admin::{ApplyRequest, CallError, Client, Done};
use hotwarm_node::config::File;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A configuration with every key there is, and one value a line.
const CONFIG: &str = r#"[cluster]
name = "test"
profile = "lan"
beacon = "50ms"
shrink_after = "600ms"
lease = "900ms"
grace = "1s"
[nodes.a]
address = "127.0.0.1:7400"
role = "data"
priority = 100
[nodes.b]
address = "127.0.0.1:7401"
role = "data"
priority = 1
[local]
data_dir = "/var/lib/hotwarm"
tls_dir = "/etc/hotwarm/tls"
allow_plaintext = false
admin = "127.0.0.1:7480"
admin_token_file = "/etc/hotwarm/token"
listen = "127.0.0.1:7400"
[local.log]
format = "text"
level = "info"
[local.on_change]
command = ["/bin/true"]
webhook = "http://127.0.0.1:9000/hotwarm"
[local.front.redis]
listen = "127.0.0.1:6380"
announce = "a.example:6380"
[local.node.b]
data_dir = "/var/lib/hotwarm-b"
tls_dir = "/etc/hotwarm/tls-b"
admin = "127.0.0.1:7481"
listen = "127.0.0.1:7401"
[local.node.b.front.redis]
listen = "127.0.0.1:6381"
announce = "b.example:6381"
[group.main]
engine = "store"
replication = "async"
durability = "fsync"
min_copies = 1
memory_max = "1GiB"
[group.main.lag_max]
time = "1s"
bytes = "64MiB"
[group.main.history]
time_max = "24h"
size_max = "10GiB"
[front.redis]
protocol = "resp"
listen = "127.0.0.1:6379"
to = "main"
reads = "hot"
password_file = "/etc/hotwarm/password"
allow_insecure = false
connections_max = 10000
[front.redis.hold]
time_max = "10s"
requests_max = 10000
bytes_max = "64MiB"
"#;

/// Keys without which a file means nothing, where they stand alone in `CONFIG`.
const NEEDED: [&str; 3] = ["name", "address", "to"];

fn check(path: &Path, text: &str) -> (i32, String) {
    std::fs::write(path, text).unwrap();
    let output = hotwarm(&["check", "--config", path.to_str().unwrap()]);
    let said = text_of(&output);
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().expect("the check was killed"), said)
}

/// The keys of a text by their section; a section is a key of the one that holds it.
fn keys(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            let mut inner = section.as_str();
            while let Some((outer, key)) = inner.rsplit_once('.') {
                found.entry(outer.to_owned()).or_default().insert(key.to_owned());
                inner = outer;
            }
            found.entry(String::new()).or_default().insert(inner.to_owned());
            found.entry(section.clone()).or_default();
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.entry(section.clone()).or_default().insert(key.to_owned());
        }
    }
    found
}

/// What a line may be replaced with, all of it wrong.
fn faulty(key: &str, value: &str) -> [String; 8] {
    let wrong_type = if value.starts_with('"') { "[1, 2]" } else { "\"no such value\"" };
    [
        format!("{key} = {wrong_type}"),
        format!("{key}_x = {value}"),
        format!("{key} = -1"),
        format!("{key} = 1.5"),
        format!("{key} = {{}}"),
        format!("{key} = \"\""),
        format!("{key} = 99999999999999999999999"),
        format!("{key} = "),
    ]
}

/// `text` with one line replaced.
fn with_line(text: &str, index: usize, line: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines[index] = line;
    lines.join("\n")
}

#[test]
fn the_configuration_that_is_made_wrong_has_every_key_and_so_have_the_docs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotwarm.toml");
    assert_eq!(check(&path, CONFIG).0, 0, "{}", check(&path, CONFIG).1);
    let docs = include_str!("../../../../docs/configuration.md");
    let quoted: Vec<&str> = docs.split('`').skip(1).step_by(2).collect();
    let documented = |key: &str| {
        let word = |text: &&str| text.split(|c: char| !c.is_ascii_lowercase() && c != '_').any(|word| word == key);
        quoted.iter().any(word)
    };
    let mine = keys(CONFIG);
    let sections: Vec<(usize, &str)> = CONFIG.lines().enumerate().filter(|(_, line)| line.starts_with('[')).collect();
    let root = (0, "[]");
    for (index, header) in std::iter::once(root).chain(sections) {
        let section = header.trim_matches(['[', ']']);
        let stranger =
            if section.is_empty() { format!("zzzzzzzz = 1\n{header}") } else { format!("{header}\nzzzzzzzz = 1") };
        let stranger = stranger.replace("[]", "[cluster]");
        let (code, said) = check(&path, &with_line(CONFIG, index, &stranger));
        let known = said.split_once("it has ").map(|(_, keys)| keys.trim().split(", "));
        assert!(code == 1 && known.is_some(), "a key that nobody knows in {header}: {said}");
        for key in known.unwrap() {
            let is_mine = mine[section].contains(key);
            let is_later = !is_mine && {
                let more = format!("{stranger}\n{key} = 1").replace("zzzzzzzz = 1", "");
                let root = format!("{key} = 1\n{CONFIG}");
                let text = if section.is_empty() { root } else { with_line(CONFIG, index, &more) };
                check(&path, &text).1.contains("not in this version of hotwarm")
            };
            assert!(is_mine || is_later, "this test does not know {key:?} of {header}");
            assert!(is_later || documented(key), "docs/configuration.md does not know {key:?} of {header}");
        }
    }
}

#[test]
fn each_wrong_value_of_a_configuration_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotwarm.toml");
    for (index, line) in CONFIG.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        for changed in &faulty(key, value) {
            let (code, said) = check(&path, &with_line(CONFIG, index, changed));
            let place = format!("hotwarm.toml:{}: ", index + 1);
            assert!(code == 1 && said.contains(&place), "{changed:?} of line {}: {code}, {said}", index + 1);
        }
        let (code, said) = check(&path, &with_line(CONFIG, index, ""));
        assert!(code == 0 || (code == 1 && said.contains(key)), "without {line:?}: {code}, {said}");
        if NEEDED.contains(&key) {
            assert_eq!(code, 1, "without {line:?}: {said}");
        }
    }
    let mut begin = 0;
    for line in CONFIG.split_inclusive('\n') {
        let cut = &CONFIG[..begin + line.len() / 2];
        let (code, said) = check(&path, cut);
        assert_eq!(code, 1, "a file that is cut inside {line:?}: {said}");
        begin += line.len();
    }
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let output = hotwarm(&["check", "--config", path.to_str().unwrap()]);
    assert!(!output.status.success() && text_of(&output).contains("hotwarm.toml"), "{}", text_of(&output));
}

#[test]
fn what_is_wrong_is_not_applied_by_the_command_nor_by_the_api() {
    let group = Group::start(&["a"]);
    let before = group.status(0).unwrap();
    let path = group.config().with_file_name("wrong.toml");
    let admin = group.nodes[0].admin.to_string();
    for (index, line) in CONFIG.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        for changed in &faulty(key, value)[..2] {
            std::fs::write(&path, with_line(CONFIG, index, changed)).unwrap();
            let output = hotwarm(&["apply", path.to_str().unwrap(), "--admin", &admin]);
            let said = text_of(&output);
            let named = said.contains(&format!("wrong.toml:{}: ", index + 1));
            assert!(output.status.code() == Some(2) && named, "{changed:?} of line {}: {said}", index + 1);
        }
    }

    let client = Client::new(group.nodes[0].admin, None);
    let state: Done = client.get("/state").unwrap();
    let good = state.group_state().unwrap().settings.text;
    let refused = |text: String, expected_version: u64| match client
        .post::<Done>("/apply", &ApplyRequest { expected_version, text: text.clone() })
    {
        Err(CallError::Refused(body)) => body.error,
        other => panic!("{other:?}, after\n{text}"),
    };
    let version = before.register_version;
    for (index, line) in good.lines().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        for changed in faulty(key, value) {
            let said = refused(with_line(&good, index, &changed), version);
            assert!(said.contains("agreed settings"), "{changed:?} of line {}: {said}", index + 1);
            assert!(said.contains(&format!(":{}: ", index + 1)), "{changed:?} of line {}: {said}", index + 1);
        }
    }
    // Each is good by itself, and wrong for this group or at this moment.
    let changed = |old: &str, new: &str| {
        assert!(good.contains(old), "{old:?} is not in\n{good}");
        good.replace(old, new)
    };
    for (text, wanted) in [
        (changed("[group.main]", "[group.other]").replace("\"main\"", "\"other\""), "cannot be renamed"),
        (changed("min_copies = 1", "min_copies = 2"), "min_copies"),
        (changed("grace = \"1s\"", "grace = \"900ms\""), "grace"),
    ] {
        let said = refused(text, version);
        assert!(said.contains(wanted), "{said}");
    }
    let said = refused(changed("requests_max = 10000", "requests_max = 10001"), version + 7);
    assert!(said.contains("has moved on"), "{said}");

    let after = group.status(0).unwrap();
    assert_eq!((after.register_version, after.epoch), (version, before.epoch), "something was applied");
    Witness::connect(group.nodes[0].front).is_served();
    assert!(File::parse(&std::fs::read_to_string(group.config()).unwrap(), Path::new("hotwarm.toml")).is_ok());
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}
