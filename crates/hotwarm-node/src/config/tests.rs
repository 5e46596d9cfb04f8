//! The configuration as an operator meets it: whole files in, values or faults out.

use super::*;
use hotwarm_core::register::Replication;
use std::fmt::Write;

const GOOD: &str = r#"
[cluster]
name = "shop"

[nodes]
a = { address = "a.lan:7400", priority = 200 }
b = { address = "b.lan:7400" }
w = { address = "w.lan:7400", role = "witness" }

[local]
data_dir = "/var/lib/hotwarm/{node}"
tls_dir = "/etc/hotwarm/tls"

[group.main]
engine = "store"
min_copies = 2
memory_max = "2GiB"
history = { time_max = "24h", size_max = "10GiB" }

[front.redis]
protocol = "resp"
listen = "127.0.0.1:6379"
to = "main"
hold = { time_max = "5s" }
"#;

fn parse(text: &str) -> Result<File, Faults> {
    File::parse(text, Path::new("hotwarm.toml"))
}

/// Replaces one line of the good file and gives the faults that follow.
fn faults_with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    parse(&GOOD.replace(old, new)).expect_err(new).to_string()
}

#[test]
fn a_good_file_is_read_whole() {
    let config = parse(GOOD).unwrap().for_node("b", "--node").unwrap();
    assert_eq!(config.this.name, "b");
    assert_eq!(config.this.priority, 100);
    assert_eq!(config.local.data_dir, Path::new("/var/lib/hotwarm/b"));
    assert_eq!(config.nodes.len(), 3);
    assert_eq!(config.agreed.timing, Timing::LAN);
    assert_eq!(config.agreed.group.min_copies, 2);
    assert_eq!(config.agreed.fronts[0].hold, Hold { time_max: Duration::from_secs(5), ..Hold::default() });
    assert_eq!(config.peer_listen().to_string(), "0.0.0.0:7400");
    assert_eq!(config.warnings, Vec::new());
}

#[test]
fn a_host_name_matches_by_its_first_label() {
    let file = parse(GOOD).unwrap();
    assert_eq!(file.for_node("w.lan.example", "the host name").unwrap().this.name, "w");
    let error = file.for_node("zeta", "HOTWARM_NODE").unwrap_err().to_string();
    assert_eq!(
        error,
        "hotwarm.toml: no node \"zeta\" (from HOTWARM_NODE) in [nodes], which has a, b, w; \
         say --node NAME or set HOTWARM_NODE"
    );
}

#[test]
fn the_normalized_text_is_a_fixed_point() {
    let mut file = parse(GOOD).unwrap();
    let front = &mut file.agreed.fronts[0];
    front.password_file = Some(PathBuf::from("/etc/with \"quotes\" \\ and more"));
    front.reads = Reads::Session;
    file.agreed.group.replication =
        Replication::Async { lag_bytes_max: 3 << 20, lag_time_max: Duration::from_millis(1500) };
    let text = file.agreed.text();
    let again = Agreed::parse(&text).unwrap();
    assert_eq!(again, file.agreed);
    assert_eq!(again.text(), text);
    assert_eq!(again.settings().text, text);
}

#[test]
fn a_timer_may_be_set_alone_and_is_checked_against_the_others() {
    let file =
        parse(&GOOD.replace("name = \"shop\"", "name = \"shop\"\nprofile = \"fast\"\nbeacon = \"20ms\"")).unwrap();
    assert_eq!(file.agreed.timing, Timing { beacon: Duration::from_millis(20), ..Timing::FAST });
    assert_eq!(
        faults_with("name = \"shop\"", "name = \"shop\"\ngrace = \"990ms\"\nshrink_after = \"500ms\""),
        "hotwarm.toml:4: grace = \"990ms\" must be at least 997ms (lease 900ms at a clock-rate error of 5%)"
    );
    assert_eq!(
        faults_with("name = \"shop\"", "name = \"shop\"\nshrink_after = \"700ms\""),
        "hotwarm.toml:4: shrink_after = \"700ms\" must be at most 0.6 of grace (1s)"
    );
}

#[test]
fn all_faults_are_reported_in_the_order_of_the_lines() {
    let text = GOOD.replace("a.lan:7400", "a.lan").replace("min_copies = 2", "min_copy = 2").replace("2GiB", "2GB");
    let error = parse(&text).unwrap_err();
    assert_eq!(error.list.iter().map(|fault| fault.line).collect::<Vec<_>>(), [6, 16, 17], "{error}");
    assert!(error.to_string().contains("did you mean \"min_copies\"?"), "{error}");
}

#[test]
fn each_wrong_value_is_refused_with_what_would_be_right() {
    for (old, new, wanted) in [
        ("name = \"shop\"", "name = \"Shop\"", "lower-case letters"),
        ("name = \"shop\"", "", "name is missing in [cluster]"),
        ("name = \"shop\"", "name = \"shop\"\nprofile = \"slow\"", "\"fast\" or \"lan\" or \"wan\" or \"patient\""),
        ("priority = 200", "priority = 1001", "a whole number from 0 to 1000"),
        ("priority = 200", "prority = 200", "did you mean \"priority\"?"),
        ("b.lan:7400", "a.lan:7400", "is that of node \"a\" already"),
        ("b.lan:7400", "b.lan:70000", "a host name or IP address and a port"),
        ("role = \"witness\"", "role = \"arbiter\"", "\"data\" or \"witness\""),
        ("data_dir = \"/var/lib/hotwarm/{node}\"", "", "data_dir is missing in [local]"),
        ("tls_dir = \"/etc/hotwarm/tls\"", "", "tls_dir is missing in [local]"),
        ("tls_dir = \"/etc/hotwarm/tls\"", "tls_dir = \"x\"\nallow_plaintext = true", "exclude each other"),
        ("tls_dir = \"/etc/hotwarm/tls\"", "tls_dir = \"x\"\nadmin = \"10.0.0.1:7480\"", "needs admin_token_file"),
        ("tls_dir = \"/etc/hotwarm/tls\"", "tls_dir = \"x\"\nadmin = \"a.lan:7480\"", "an IP address and a port"),
        ("tls_dir = \"/etc/hotwarm/tls\"", "tls_dir = \"x\"\nlog = { level = \"loud\" }", "\"error\" or \"warn\""),
        (
            "tls_dir = \"/etc/hotwarm/tls\"",
            "tls_dir = \"x\"\non_change = { webhook = \"https://x/\" }",
            "http://host:port/path",
        ),
        (
            "tls_dir = \"/etc/hotwarm/tls\"",
            "tls_dir = \"x\"\nfront.web.listen = \"127.0.0.1:1\"",
            "there is no [front.web]",
        ),
        ("min_copies = 2", "min_copies = 3", "at most the number of nodes that hold data, 2"),
        ("min_copies = 2", "min_copies = 0", "a whole number from 1 to 9"),
        ("memory_max = \"2GiB\"", "memory_max = 2", "a size from 16MiB to 1TiB"),
        ("time_max = \"24h\"", "time_max = \"24\"", "a duration from 1m to 3650d"),
        ("min_copies = 2", "replication = \"async\"", "needs lag_max"),
        ("min_copies = 2", "lag_max = { time = \"1s\", bytes = \"1MiB\" }", "only with replication = \"async\""),
        ("min_copies = 2", "replication = \"async\"\nlag_max = { time = \"1s\" }", "lag_max must have both"),
        ("127.0.0.1:6379", "0.0.0.0:6379", "is beyond loopback and needs password_file"),
        ("127.0.0.1:6379", "6379", "an IP address and a port"),
        ("to = \"main\"", "to = \"mani\"", "names no group; this file has \"main\""),
        ("to = \"main\"", "", "to is missing in [front.redis]"),
        ("hold = { time_max = \"5s\" }", "hold = { time_max = \"0s\" }", "a duration from 1ms to 1h"),
        ("hold = { time_max = \"5s\" }", "hold = 5", "must be a table"),
    ] {
        let error = faults_with(old, new);
        assert!(error.starts_with("hotwarm.toml:"), "{error}");
        assert!(error.contains(wanted), "{new}\n gave: {error}\n not: {wanted}");
        assert_eq!(error.lines().count(), 1, "one fault for one mistake: {new}\n gave: {error}");
    }
}

#[test]
fn what_only_later_versions_have_is_refused_by_name() {
    let appended = |text: &str| parse(&format!("{GOOD}\n{text}\n")).unwrap_err().to_string();
    assert!(
        appended("[service.web]\ncommand = [\"x\"]").contains("service: running the user's own programs is not in")
    );
    assert!(appended("[group.other]").contains("more than one group is not in this version"));
    assert!(
        appended("[front.h]\nprotocol = \"http\"\nlisten = \"127.0.0.1:80\"\nto = \"main\"")
            .contains("not in this version, which has \"resp\"")
    );
    assert!(
        faults_with("engine = \"store\"", "engine = \"postgres\"").contains("not in this version, which has \"store\"")
    );
    assert!(
        faults_with("to = \"main\"", "to = \"main\"\nvirtual_address = \"10.0.0.1/24\"")
            .contains("virtual addresses are not in")
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let error = faults_with("min_copies = 2", "min_copies = = 2");
    assert!(error.starts_with("hotwarm.toml:16: not TOML"), "{error}");
    assert!(parse("").unwrap_err().to_string().contains("[cluster] is missing"));
}

#[test]
fn any_line_may_be_torn_without_a_panic() {
    for index in 0..GOOD.len() {
        let mut text = String::new();
        let _ = write!(text, "{}{}", &GOOD[..index], &GOOD[index + 1..]);
        let _ = parse(&text);
        let _ = parse(&GOOD[..index]);
    }
}

#[test]
fn a_machine_may_listen_elsewhere() {
    let text = GOOD.replace("[group.main]", "front.redis.listen = \"127.0.0.1:7001\"\n[group.main]");
    let config = parse(&text).unwrap().for_node("a", "--node").unwrap();
    assert_eq!(config.fronts()[0].listen.to_string(), "127.0.0.1:7001");
    assert_eq!(config.agreed, parse(GOOD).unwrap().agreed, "no drift by a local setting");
}

#[test]
fn a_machine_may_announce_what_its_clients_see() {
    let own = "front.redis.listen = \"127.0.0.1:7001\"\n[local.node.b]\n\
               front.redis.announce = \"shop.example:6400\"\n[group.main]";
    let file = parse(&GOOD.replace("[group.main]", own)).unwrap();
    let announced = |node| {
        let config = file.for_node(node, "--node").unwrap();
        config.announced(&config.fronts()[0])
    };
    assert_eq!(announced("a"), (String::new(), 7001), "its own host, and the port it listens on");
    assert_eq!(announced("b"), ("shop.example".to_owned(), 6400));
    let error = faults_with("[group.main]", "front.redis.announce = \"shop.example\"\n[group.main]");
    assert!(error.contains("announce") && error.contains("and a port"), "{error}");
    let error = faults_with("[group.main]", "front.web.announce = \"shop.example:1\"\n[group.main]");
    assert!(error.contains("[local.front.web]: there is no [front.web]"), "{error}");
}

#[test]
fn what_is_in_force_is_warned_of_and_the_file_is_remembered() {
    let config = parse(GOOD).unwrap().for_node("a", "--node").unwrap();
    let mut agreed = config.agreed.clone();
    agreed.fronts[0].password_file = None;
    agreed.fronts[0].allow_insecure = true;
    let now = config.under(agreed.clone());
    assert_eq!((&now.agreed, &now.filed), (&agreed, &config.filed));
    assert!(now.warnings.iter().any(|warning| warning.text.contains("allow_insecure")), "{:?}", now.warnings);
    assert_eq!(now.under(config.agreed.clone()), config);
}

#[test]
fn what_weakens_the_group_is_warned_of() {
    let text = GOOD.replace("w = {", "c = {").replace(", role = \"witness\"", "").replace("min_copies = 2", "");
    let warnings = parse(&text).unwrap().warnings;
    assert!(warnings.iter().any(|fault| fault.text.contains("2 is recommended")), "{warnings:?}");
    let text = GOOD.replace("w = { address = \"w.lan:7400\", role = \"witness\" }", "");
    let warnings = parse(&text).unwrap().warnings;
    assert!(warnings.iter().any(|fault| fault.text.contains("add a witness")), "{warnings:?}");
}

#[test]
fn differences_name_the_key_and_both_values() {
    let old = parse(GOOD).unwrap().agreed.text();
    let new = parse(&GOOD.replace("min_copies = 2", "min_copies = 1").replace("5s", "6s")).unwrap().agreed.text();
    let lines: Vec<String> = differences(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["front.redis.hold.time_max: \"5s\" -> \"6s\"", "group.main.min_copies: 2 -> 1"]);
    assert_eq!(differences(&old, &old), Vec::new());
    let gone = &old[..old.find("\n[front.redis]").unwrap()];
    assert!(differences(&old, gone).iter().all(|difference| difference.file.is_none()));
}

#[test]
fn a_node_listens_where_its_address_says() {
    for (address, listen) in [
        ("127.0.0.1:7400", "127.0.0.1:7400"),
        ("localhost:7400", "127.0.0.1:7400"),
        ("10.0.0.1:7400", "0.0.0.0:7400"),
        ("[::1]:7400", "[::1]:7400"),
        ("[2001:db8::1]:7400", "[::]:7400"),
        ("a.lan:7400", "0.0.0.0:7400"),
    ] {
        assert_eq!(read::listen_for(address).to_string(), listen, "{address}");
    }
}

#[test]
fn several_nodes_on_one_machine_have_what_is_their_own() {
    let own = "[local.node.b]\nadmin = \"127.0.0.1:7481\"\nlisten = \"127.0.0.1:7401\"\n\
               front.redis.listen = \"127.0.0.1:7002\"\n[group.main]";
    let file = parse(&GOOD.replace("[group.main]", own)).unwrap();
    let b = file.for_node("b", "--node").unwrap();
    assert_eq!((b.local.admin.port(), b.peer_listen().port(), b.fronts()[0].listen.port()), (7481, 7401, 7002));
    assert_eq!(b.local.data_dir, Path::new("/var/lib/hotwarm/b"));
    let a = file.for_node("a", "--node").unwrap();
    assert_eq!((a.local.admin.port(), a.fronts()[0].listen.port()), (7480, 6379));
    let error = faults_with("[group.main]", "[local.node.z]\nadmin = \"127.0.0.1:1\"\n[group.main]");
    assert!(error.contains("there is no node \"z\""), "{error}");
}
