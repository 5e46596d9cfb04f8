//! The commented configuration that `hotwarm init` writes.

use crate::flags::{Init, NamedAddress, Profile};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// First admin port, front port of several nodes on one machine; each node has the next ones.
const ADMIN_PORT: u16 = 7480;
const FRONT_PORT: u16 = 6379;

/// Whether all nodes are on one machine, as far as their addresses say.
pub fn on_one_machine(flags: &Init) -> bool {
    let hosts: BTreeMap<&str, ()> = all(flags).map(|(node, _)| (host(node), ())).collect();
    hosts.len() == 1 && all(flags).count() > 1
}

/// The file's text. `out` is where the group is made: nodes on one machine keep everything there.
pub fn text(flags: &Init, out: &Path) -> String {
    let mut text = String::new();
    head(&mut text, flags);
    nodes(&mut text, flags);
    local(&mut text, flags, out);
    text.push_str(GROUP);
    text
}

fn all(flags: &Init) -> impl Iterator<Item = (&NamedAddress, bool)> {
    flags.nodes.iter().map(|node| (node, false)).chain(flags.witness.iter().map(|node| (node, true)))
}

fn host(node: &NamedAddress) -> &str {
    node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host)
}

fn head(text: &mut String, flags: &Init) {
    let _ = write!(
        text,
        "# One identical file on all nodes of the group. [local] belongs to the machine; everything else belongs to the\n\
         # group, and after the first start is changed by \"hotwarm apply\".\n\n\
         [cluster]\nname = {}\n\
         profile = \"{}\"           # fast | lan | wan | patient: beacon, shrink_after, lease, grace; each may be set alone\n\n",
        quoted(&flags.name),
        flags.profile.word(),
    );
    if flags.profile == Profile::Fast {
        text.push_str("# With \"fast\" a machine that is busy for a quarter of a second is replaced.\n\n");
    }
}

fn nodes(text: &mut String, flags: &Init) {
    text.push_str("[nodes]                   # where peers reach each other; names are resolved at each connect\n");
    for (index, (node, witness)) in all(flags).enumerate() {
        let address = quoted(&node.address);
        let _ = if witness {
            writeln!(text, "{} = {{ address = {address}, role = \"witness\" }}   # votes, holds no data", node.name)
        } else if index == 0 {
            writeln!(text, "{} = {{ address = {address}, priority = 200 }}   # hot first", node.name)
        } else {
            writeln!(text, "{} = {{ address = {address} }}", node.name)
        };
    }
    text.push('\n');
}

fn local(text: &mut String, flags: &Init, out: &Path) {
    if on_one_machine(flags) {
        let _ = write!(
            text,
            "[local]                   # all nodes are on this machine: {{node}} stands for the name of each\n\
             data_dir = {}\ntls_dir = {}\n\n",
            quoted(&format!("{}/{{node}}/data", out.display())),
            quoted(&format!("{}/{{node}}", out.display())),
        );
        for (index, (node, _)) in (0u16..).zip(all(flags)) {
            let _ = write!(
                text,
                "[local.node.{}]\nadmin = \"127.0.0.1:{}\"\nfront.redis.listen = \"127.0.0.1:{}\"\n\n",
                node.name,
                ADMIN_PORT + index,
                FRONT_PORT + index,
            );
        }
        return;
    }
    text.push_str(
        "[local]\n\
         data_dir = \"/var/lib/hotwarm\"\n\
         tls_dir = \"/etc/hotwarm/tls\"         # made by \"hotwarm init\", for each node its own\n\
         admin = \"127.0.0.1:7480\"             # status and changes, /metrics, /primary, /replica\n\
         log = { format = \"text\", level = \"info\" }\n\
         # on_change = { command = [\"/usr/local/bin/role-changed\"], webhook = \"http://127.0.0.1:9000/hotwarm\" }\n\n",
    );
}

/// What the group agrees on, and its front.
const GROUP: &str = "\
[group.main]
engine = \"store\"
replication = \"sync\"      # acknowledged when durable on every in-sync node; or async, with lag_max
durability = \"fsync\"      # an acknowledged write is on the disks, not only in their caches
min_copies = 1            # disks a write must be on before it is acknowledged, the hot's included
memory_max = \"1GiB\"
history = { time_max = \"24h\", size_max = \"10GiB\" }

[front.redis]             # any Redis client may talk to any node
protocol = \"resp\"
listen = \"127.0.0.1:6379\" # beyond loopback it needs password_file
to = \"main\"
reads = \"hot\"             # hot | verified | session | any
# password_file = \"/etc/hotwarm/redis.password\"
hold = { time_max = \"10s\", requests_max = 10000, bytes_max = \"64MiB\" }   # waits while there is no hot
";

/// A TOML string. Names and addresses were checked by the flags; a path may hold anything.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_node::config::File;

    fn flags(nodes: &[&str], witness: &[&str]) -> Init {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Init {
            name: "shop".to_owned(),
            nodes: parse(nodes),
            witness: parse(witness),
            profile: Profile::Fast,
            out: "/tmp".into(),
            json: false,
        }
    }

    fn parsed(flags: &Init) -> File {
        File::parse(&text(flags, Path::new("/tmp/a \"b\\c")), Path::new("hotwarm.toml")).unwrap()
    }

    #[test]
    fn machines_apart_share_one_plain_file() {
        let file = parsed(&flags(&["a=10.0.0.1:7400", "b=10.0.0.2:7400"], &["w=10.0.0.3:7400"]));
        assert!(file.local.of_node.is_empty());
        assert_eq!(file.for_node("b", "--node").unwrap().fronts()[0].listen.port(), 6379);
        assert_eq!(file.warnings, Vec::new());
    }

    #[test]
    fn nodes_on_one_machine_have_ports_and_folders_of_their_own() {
        let file = parsed(&flags(&["a=127.0.0.1:7400", "b=127.0.0.1:7401"], &["w=127.0.0.1:7402"]));
        let config = |name: &str| file.for_node(name, "--node").unwrap();
        assert_eq!(config("a").fronts()[0].listen.port(), 6379);
        assert_eq!(config("w").fronts()[0].listen.port(), 6381);
        assert_eq!(config("b").local.admin.port(), 7481);
        assert_eq!(config("b").local.data_dir, Path::new("/tmp/a \"b\\c/b/data"));
    }

    #[test]
    fn one_node_alone_is_a_plain_file_too() {
        let file = parsed(&flags(&["a=127.0.0.1:7400"], &[]));
        assert!(file.warnings.iter().any(|fault| fault.text.contains("one node alone")));
    }
}
