//! The configuration file, and the settings of a group as the register holds them.

use super::SMALL;
use crate::sample;
use crate::target::{Seed, Target};
use hotwarm_node::config::{Agreed, Faults, File, differences};
use std::path::Path;

pub(super) const CONFIG: Target =
    Target { name: "config", run: config, seeds: config_seeds, words, memory_base_bytes: 2 << 20, ..SMALL };
pub(super) const SETTINGS: Target =
    Target { name: "settings", run: settings, seeds: settings_seeds, words, memory_base_bytes: 2 << 20, ..SMALL };

const PATH: &str = "hotwarm.toml";

/// Each fault names a line of the text, or that something is missing, and says something in one line.
fn are_told(faults: &Faults, text: &str) {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    assert!(!faults.list.is_empty(), "what is wrong is not said");
    for fault in &faults.list {
        assert!(fault.line <= lines, "line {} of {lines}: {}", fault.line, fault.text);
        assert!(!fault.text.is_empty() && !fault.text.contains('\n'), "not one line: {:?}", fault.text);
    }
    assert!(faults.list.is_sorted_by_key(|fault| fault.line), "faults are in the order of the file");
    assert_eq!(faults.to_string().lines().count(), faults.list.len());
}

/// What was agreed is written and read back as it was.
fn is_normal(agreed: &Agreed) {
    let text = agreed.text();
    match Agreed::parse(&text) {
        Ok(again) => {
            assert_eq!(again.text(), text);
            assert_eq!(again.settings(), agreed.settings());
            assert_eq!(differences(&text, &again.text()), []);
        }
        Err(faults) => panic!("what was written cannot be read: {faults}\n{text}"),
    }
}

fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = match File::parse(&text, Path::new(PATH)) {
        Ok(file) => file,
        Err(faults) => return are_told(&faults, &text),
    };
    is_normal(&file.agreed);
    assert!(file.for_node("no such node", "--node").is_err());
    for node in &file.nodes {
        let config = file.for_node(&node.name, "--node").expect("a node of the file is found by its name");
        assert_eq!(config.this, *node);
        let _ = config.peer_listen();
        for front in config.fronts() {
            let _ = config.announced(&front);
        }
    }
}

fn settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = differences(&text, sample::CONFIG);
    match Agreed::parse(&text) {
        Ok(agreed) => is_normal(&agreed),
        Err(faults) => are_told(&faults, &text),
    }
}

fn config_seeds() -> Vec<Seed> {
    let seed = |name, text: &str| (name, text.as_bytes().to_vec());
    vec![
        seed("full", sample::CONFIG),
        seed(
            "least",
            "[cluster]\nname=\"s\"\n[nodes]\na={address=\"127.0.0.1:1\"}\n[local]\ndata_dir=\"/d\"\ntls_dir=\"/t\"\n[group.main]\n",
        ),
        seed("unknown keys", "[cluster]\nnam = \"s\"\n[nodes]\n[local]\ndata = 1\n[grup.main]\n"),
        seed(
            "wrong values",
            "[cluster]\nname = 7\nbeacon = \"1 year\"\n[nodes]\na = { address = \"a\", priority = -1 }\n[group.main]\nmin_copies = 99\n",
        ),
        seed("not TOML", "[cluster\nname = \"s\n"),
        seed("twice", "[cluster]\nname = \"s\"\nname = \"t\"\n[cluster]\n"),
    ]
}

fn settings_seeds() -> Vec<Seed> {
    let file = File::parse(sample::CONFIG, Path::new(PATH)).expect("the example is right");
    let text = file.agreed.text();
    let fewer: String =
        text.lines().filter(|line| !line.starts_with("grace")).map(|line| format!("{line}\n")).collect();
    vec![
        ("agreed", text.into_bytes()),
        ("a line is missing", fewer.into_bytes()),
        ("a file", sample::CONFIG.as_bytes().to_vec()),
    ]
}

fn words() -> Vec<String> {
    [
        "[cluster]",
        "[nodes]",
        "[local]",
        "[group.main]",
        "[front.redis]",
        "name",
        "profile",
        "\"fast\"",
        "\"lan\"",
        "\"wan\"",
        "beacon",
        "shrink_after",
        "lease",
        "grace",
        "address",
        "role",
        "\"witness\"",
        "\"data\"",
        "priority",
        "data_dir",
        "tls_dir",
        "peer_security",
        "listen",
        "announce",
        "admin",
        "admin_token_file",
        "replication",
        "\"sync\"",
        "\"async\"",
        "lag_max",
        "time",
        "bytes",
        "\"1 MiB\"",
        "\"300ms\"",
        "min_copies",
        "durability",
        "\"fsync\"",
        "engine",
        "\"store\"",
        "hold",
        "reads",
        "password_file",
        "log",
        "level",
        "format",
        "on_change",
        "webhook",
        "url",
        "{node}",
        "\"\"\"",
        "'''",
        "0x7fffffffffffffff",
        "1e999",
        "1979-05-27T07:32:00Z",
    ]
    .map(str::to_owned)
    .to_vec()
}
