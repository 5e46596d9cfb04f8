//! Settings that change under a running node: by the register, by its file, and what clients are told of it.

#![expect(clippy::unwrap_used, reason = "in a test's helper a failure is the test's")]

mod support;

use hotwarm_core::{Ask, AskRefused};
use hotwarm_node::admin::NodeControl;
use hotwarm_node::config::Hold;
use hotwarm_types::Version;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;
use support::{Client, Group, PATIENCE};

/// Changes the file of all nodes.
fn edit(group: &Group, from: &str, to: &str) {
    let text = std::fs::read_to_string(group.config()).unwrap();
    assert!(text.contains(from), "{from} in:\n{text}");
    std::fs::write(group.config(), text.replace(from, to)).unwrap();
}

/// Makes the register follow the file.
fn apply(group: &Group, index: usize) {
    let control = group.nodes[index].as_ref().unwrap().control();
    let settings = group.config_of(index).agreed.settings();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let began = Instant::now();
    loop {
        let expected = Version(group.status(index).register_version);
        let ask = Ask::Apply { expected, settings: settings.clone(), changes: String::new() };
        let answer = runtime.block_on(control.ask(ask));
        // Members that become in sync meanwhile change the state too.
        if !matches!(answer, Err(AskRefused::Conflict { .. })) || began.elapsed() > PATIENCE {
            assert!(answer.is_ok(), "{answer:?}");
            return;
        }
    }
}

fn reload(group: &Group, index: usize) {
    group.nodes[index].as_ref().unwrap().reload();
}

/// Asks until the answer is the one that is waited for.
fn ask_until(client: &mut Client, line: &str, wanted: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let reply = client.ask(line);
        if wanted(&reply) {
            return reply;
        }
        assert!(began.elapsed() < PATIENCE, "{line}: {reply}");
        std::thread::yield_now();
    }
}

fn complaints(group: &Group, index: usize) -> String {
    group.status(index).complaints.join("\n")
}

fn taken_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn free_port() -> SocketAddr {
    taken_port().1
}

/// Passwords, bounds and memory count as soon as the register has them; who is connected stays connected.
#[test]
fn what_is_applied_to_a_front_counts_at_once() {
    let group = Group::start(&["a"]);
    group.hot();
    let mut client = group.client(0);
    assert_eq!(client.ask("SET k 1"), "OK");

    let password = group.config().with_file_name("password");
    edit(
        &group,
        "to = \"main\"\n",
        &format!("to = \"main\"\nconnections_max = 2\npassword_file = \"{}\"\n", password.display()),
    );
    edit(&group, "engine = \"store\"\n", "engine = \"store\"\nmemory_max = \"32MiB\"\n");
    apply(&group, 0);
    let required = "error: NOAUTH Authentication required.";
    ask_until(&mut client, "GET k", |reply| reply == required);
    assert_eq!(client.ask("AUTH secret"), "OK");
    assert_eq!(client.ask("GET k"), "1");
    assert_eq!(client.ask("CONFIG GET maxclients"), "[maxclients, 2]");
    assert_eq!(client.ask("CONFIG GET maxmemory"), format!("[maxmemory, {}]", 32 << 20));
    let refusal = client.ask("CONFIG SET maxmemory 1");
    assert!(refusal.contains("group.main.memory_max") && refusal.contains("hotwarm apply"), "{refusal}");
    let mut second = group.client(0);
    assert_eq!(second.ask("AUTH secret"), "OK");
    assert_eq!(group.client(0).ask("PING"), "error: ERR max number of clients reached");

    // The file of the password is read again when the node is told to.
    std::fs::write(&password, "changed\n").unwrap();
    assert_eq!(second.ask("AUTH secret"), "OK");
    reload(&group, 0);
    assert!(second.ask("AUTH secret").starts_with("error: WRONGPASS"));
    assert_eq!(second.ask("AUTH changed"), "OK");
    assert_eq!(client.ask("GET k"), "1", "who was let in stays");

    std::fs::remove_file(&password).unwrap();
    reload(&group, 0);
    assert!(complaints(&group, 0).contains("front.redis.password_file"), "{}", complaints(&group, 0));
    assert_eq!(second.ask("AUTH changed"), "OK", "what cannot be read changes nothing");
}

/// The new address is open before the old one is closed; one that cannot be had leaves the old one open, and is said.
#[test]
fn a_front_moves_without_losing_its_clients_and_stays_where_it_cannot() {
    let group = Group::start(&["a"]);
    group.hot();
    let mut client = group.client(0);
    assert_eq!(client.ask("SET k 1"), "OK");
    let (old, new) = (group.front(0), free_port());
    edit(&group, &old.to_string(), &new.to_string());
    reload(&group, 0);
    assert_eq!(group.front(0), new);
    assert_eq!(Client::connect(new).ask("GET k"), "1");
    assert!(TcpStream::connect(old).is_err(), "the old address is closed");
    assert_eq!(client.ask("CONFIG GET port"), format!("[port, {}]", new.port()), "who was connected stays");

    let (taker, taken) = taken_port();
    edit(&group, &new.to_string(), &taken.to_string());
    reload(&group, 0);
    let said = complaints(&group, 0);
    assert!(said.contains("front.redis.listen") && said.contains(&format!("still served on {new}")), "{said}");
    assert_eq!(Client::connect(new).ask("GET k"), "1");
    drop(taker);
    reload(&group, 0);
    assert_eq!(complaints(&group, 0), said_without(&said, "front.redis.listen"));
    assert_eq!(Client::connect(taken).ask("GET k"), "1");

    // The same port on more addresses: the old socket itself is in the way.
    let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), taken.port());
    edit(&group, "to = \"main\"\n", "to = \"main\"\nallow_insecure = true\n");
    edit(&group, &taken.to_string(), &everywhere.to_string());
    reload(&group, 0);
    assert!(complaints(&group, 0).contains("beyond loopback"), "the register does not allow it yet");
    assert_eq!(group.front(0), taken);
    apply(&group, 0);
    group.wait_for(0, "listens everywhere", |_| group.front(0) == everywhere);
    assert_eq!(Client::connect(taken).ask("GET k"), "1");
}

/// A front that the register's settings would open to anybody stays closed, and does not keep a node from starting: so the
/// settings that open it can be agreed on.
#[test]
fn a_front_that_lacks_its_password_stays_closed_on_a_node_that_runs() {
    let mut group = Group::start(&["a"]);
    group.hot();
    let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), free_port().port());
    let password = group.config().with_file_name("password");
    let listen = format!("front.redis.listen = \"{}\"", group.front(0));
    edit(&group, &listen, &format!("front.redis.listen = \"{everywhere}\""));
    edit(&group, "to = \"main\"\n", &format!("to = \"main\"\npassword_file = \"{}\"\n", password.display()));
    group.restart(0);
    group.hot();
    let said = complaints(&group, 0);
    let wanted = ["front.redis.listen", "it is not opened", "password_file", "hotwarm apply"];
    assert!(wanted.iter().all(|words| said.contains(words)), "{said}");
    let within = SocketAddr::new("127.0.0.1".parse().unwrap(), everywhere.port());
    assert!(TcpStream::connect(within).is_err(), "nobody is let in without a password");

    apply(&group, 0);
    group.wait_for(0, "the front opens", |_| !group.nodes[0].as_ref().unwrap().fronts().is_empty());
    let mut client = Client::connect(within);
    assert_eq!(client.ask("GET k"), "error: NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH secret"), "OK");
    // A secret that cannot be read keeps it closed as well, and it opens once it can.
    std::fs::rename(&password, password.with_extension("away")).unwrap();
    group.restart(0);
    group.hot();
    assert!(complaints(&group, 0).contains("front.redis.password_file"), "{}", complaints(&group, 0));
    assert!(TcpStream::connect(within).is_err());
    std::fs::rename(password.with_extension("away"), &password).unwrap();
    reload(&group, 0);
    assert_eq!(Client::connect(within).ask("GET k"), "error: NOAUTH Authentication required.");
}

fn said_without(said: &str, key: &str) -> String {
    said.lines().filter(|line| !line.contains(key)).collect::<Vec<_>>().join("\n")
}

/// Fronts come and go with the settings; those of other nodes that cannot follow say so and serve on.
#[test]
fn a_front_is_opened_and_closed_by_apply() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let address = free_port();
    let second = format!("\n[front.second]\nprotocol = \"resp\"\nlisten = \"{address}\"\nto = \"main\"\n");
    let text = std::fs::read_to_string(group.config()).unwrap();
    std::fs::write(group.config(), format!("{text}{second}")).unwrap();
    apply(&group, hot);
    // All nodes of this test share a machine: one of them gets the port.
    let count =
        |group: &Group| (0..3).filter(|index| group.nodes[*index].as_ref().unwrap().fronts().len() == 2).count();
    let cannot =
        |group: &Group| (0..3).filter(|index| complaints(group, *index).contains("front.second.listen")).count();
    group.wait_for(hot, "one opens, two complain", |_| (count(&group), cannot(&group)) == (1, 2));
    let mut client = Client::connect(address);
    assert_eq!(client.ask("SET k 1"), "OK");
    std::fs::write(group.config(), &text).unwrap();
    apply(&group, hot);
    group.wait_for(hot, "it is closed", |_| (count(&group), cannot(&group)) == (0, 0));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(client.ask("GET k"), "1", "who was connected stays");
}

/// A shorter hold is the hold of the next command without a hot.
#[test]
fn a_hold_follows_the_settings() {
    let mut group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    edit(&group, "to = \"main\"\n", "to = \"main\"\nhold = { time_max = \"200ms\" }\nconnections_max = 77\n");
    apply(&group, hot);
    let mut client = group.client(warm);
    ask_until(&mut client, "CONFIG GET maxclients", |reply| reply == "[maxclients, 77]");
    group.kill(2);
    group.kill(hot);
    let began = Instant::now();
    let reply = client.ask("GET k");
    assert!(reply.starts_with("error: TRYAGAIN"), "{reply}");
    assert!(began.elapsed() < Hold::default().time_max, "{:?}", began.elapsed());
}

/// What a running node cannot follow is named, also when nothing else was wrong.
#[test]
fn what_needs_a_restart_is_named() {
    let group = Group::start(&["a"]);
    group.hot();
    edit(&group, "[group.main]", "[local.log]\nformat = \"json\"\nlevel = \"debug\"\n[group.main]");
    reload(&group, 0);
    let said = complaints(&group, 0);
    assert!(said.contains("local.log.format was changed") && said.contains("started again"), "{said}");
    assert!(!said.contains("log.level"), "{said}");
    edit(&group, "format = \"json\"", "format = \"jsn\"");
    reload(&group, 0);
    let said = complaints(&group, 0);
    assert!(said.contains("cannot be used") && said.contains("jsn"), "{said}");
    edit(&group, "format = \"jsn\"", "format = \"text\"");
    reload(&group, 0);
    let said = complaints(&group, 0);
    assert!(!said.contains("local.log") && !said.contains("cannot be used"), "{said}");
}

/// The admin API moves with `[local]`, and its token is read again.
#[test]
fn the_admin_port_follows_the_file() {
    let group = Group::start(&["a"]);
    group.hot();
    let (old, new) = (group.config_of(0).local.admin, free_port());
    let token = group.config().with_file_name("token");
    std::fs::write(&token, "first\n").unwrap();
    edit(&group, &old.to_string(), &new.to_string());
    edit(&group, "[local]\n", &format!("[local]\nadmin_token_file = \"{}\"\n", token.display()));
    reload(&group, 0);
    assert!(TcpStream::connect(old).is_err());
    assert_eq!((http_status(new, "first"), http_status(new, "second")), (200, 401));
    std::fs::write(&token, "second\n").unwrap();
    reload(&group, 0);
    assert_eq!((http_status(new, "first"), http_status(new, "second")), (401, 200));
}

fn http_status(address: SocketAddr, token: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /status HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Clients that look for the hot, by Sentinel, ROLE or INFO, find its own front, wherever it listens and moves.
#[test]
fn every_node_names_the_hots_own_front() {
    let group = Group::start(&["a", "b", "w"]);
    let hot = group.hot();
    group.wait_in_sync(hot, 2);
    let warm = 1 - hot;
    let front = |index| group.front(index).port().to_string();
    let mut client = group.client(warm);
    let found = |hot: usize| format!("[127.0.0.1, {}]", front(hot));
    let ask = "SENTINEL get-master-addr-by-name main";
    for index in 0..3 {
        ask_until(&mut group.client(index), ask, |reply| reply == found(hot));
    }
    assert_eq!(client.ask("SENTINEL get-master-addr-by-name other"), "nil");
    let wanted = format!("[slave, 127.0.0.1, {}, connected, ", front(hot));
    ask_until(&mut client, "ROLE", |reply| reply.starts_with(&wanted));
    let info = client.ask("INFO replication");
    assert!(info.contains(&format!("master_port:{}", front(hot))), "{info}");
    let wanted = format!("[[name, main, ip, 127.0.0.1, port, {}, flags, master, ", front(hot));
    ask_until(&mut client, "SENTINEL MASTERS", |reply| reply.starts_with(&wanted));
    let wanted = format!("port, {}, flags, slave,", front(warm));
    ask_until(&mut client, "SENTINEL REPLICAS main", |reply| reply.contains(&wanted));
    for other in [hot, 2] {
        let wanted = format!("port, {}, flags, sentinel,", front(other));
        ask_until(&mut client, "SENTINEL SENTINELS main", |reply| reply.contains(&wanted));
    }
    let wanted = format!("[127.0.0.1, {}, ", front(warm));
    ask_until(&mut group.client(hot), "ROLE", |reply| reply.contains(&wanted));

    group.switch_over(hot, Some(warm));
    group.wait_for(warm, "it serves", |status| status.node.serves);
    ask_until(&mut group.client(2), ask, |reply| reply == found(warm));

    // What [local] announces is told instead, and what changes is told to all.
    let own = format!("front.redis.listen = \"{}\"", group.front(warm));
    edit(&group, &own, &format!("{own}\nfront.redis.announce = \"shop.example:7777\""));
    reload(&group, warm);
    for index in 0..3 {
        ask_until(&mut group.client(index), ask, |reply| reply == "[shop.example, 7777]");
    }
}
