//! What a file's nodes need of the machines they run on, for `hotwarm check`: ports that do not collide, files that are
//! there.
//!
//! Nothing is opened for listening: whether another program has a port shows when the node starts.

use super::read::host_and_port;
use super::{Config, File, PeerSecurity, Secret};
use crate::storage::chain;
use crate::tls::Tls;
use std::collections::BTreeMap;
use std::net::SocketAddr;

impl File {
    /// Each address on which two listeners of one machine would meet. Nodes whose addresses name the same host are on one
    /// machine.
    #[must_use]
    pub fn clashes(&self) -> Vec<String> {
        let mut taken: BTreeMap<(&str, u16), Vec<(SocketAddr, String)>> = BTreeMap::new();
        let mut found = Vec::new();
        for node in &self.nodes {
            let Ok(config) = self.for_node(&node.name, "[nodes]") else { continue };
            let host = host_and_port(&node.address).map_or(node.address.as_str(), |(host, _)| host);
            for (what, address) in config.listeners() {
                if address.port() == 0 {
                    continue;
                }
                let others = taken.entry((host, address.port())).or_default();
                if let Some((_, other)) = others.iter().find(|(other, _)| meet(*other, address)) {
                    found.push(format!(
                        "{what} would listen on {address}, and so would {other}: one machine has that port once; set \
                         another in [local.node.{}]",
                        node.name
                    ));
                }
                others.push((address, what));
            }
        }
        found
    }
}

impl Config {
    /// What this node listens on, each with its name.
    fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let name = &self.this.name;
        let mut all = vec![
            (format!("node {name} for its peers (listen)"), self.peer_listen()),
            (format!("node {name}'s admin"), self.local.admin),
        ];
        all.extend(
            self.fronts().into_iter().map(|front| (format!("node {name}'s front {}", front.name), front.listen)),
        );
        all
    }

    /// Each file that this node needs to start, or to open its fronts, and that cannot be used here; with what the system
    /// said.
    #[must_use]
    pub fn unusable_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let PeerSecurity::Tls { dir } = &self.local.peers
            && let Err(error) = Tls::load(dir)
        {
            found.push(format!("tls_dir: {}", chain(&error)));
        }
        let token = self.local.admin_token_file.iter().map(|path| ("admin_token_file".to_owned(), path));
        let fronts = self.agreed.fronts.iter();
        let passwords = fronts
            .filter_map(|front| Some((format!("front.{}.password_file", front.name), front.password_file.as_ref()?)));
        for (key, path) in token.chain(passwords) {
            if let Err(error) = Secret::read(path) {
                found.push(format!("{key}: {}", chain(&error)));
            }
        }
        found
    }
}

/// Whether a machine cannot listen on both at once. A port on all addresses takes that of each one.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn file(nodes: &str, local: &str) -> File {
        let text = format!(
            "[cluster]\nname = \"shop\"\n[nodes]\n{nodes}\n[local]\ndata_dir = \"/data\"\ntls_dir = \"/nonexistent\"\n{local}\n\
             [group.main]\n[front.redis]\nprotocol = \"resp\"\nlisten = \"127.0.0.1:6379\"\nto = \"main\"\n\
             password_file = \"/nonexistent/password\"\n"
        );
        File::parse(&text, Path::new("hotwarm.toml")).unwrap_or_else(|faults| panic!("{faults}"))
    }

    const HERE: &str = "a = { address = \"127.0.0.1:7400\" }\nb = { address = \"127.0.0.1:7401\" }";

    #[test]
    fn two_nodes_of_one_machine_do_not_share_a_port() {
        let found = file(HERE, "[local.node.b]\nadmin = \"127.0.0.1:7481\"").clashes();
        assert_eq!(found.len(), 1, "{found:?}");
        let wanted = ["node b's front redis", "127.0.0.1:6379", "node a's front redis", "[local.node.b]"];
        assert!(wanted.iter().all(|words| found[0].contains(words)), "{found:?}");
        let own = "[local.node.b]\nadmin = \"0.0.0.0:7480\"\nfront.redis.listen = \"127.0.0.1:7400\"";
        let token = format!("admin_token_file = \"/token\"\n{own}");
        let found = file(HERE, &token).clashes().join("\n");
        assert!(found.contains("b's admin would listen on 0.0.0.0:7480"), "{found}");
        assert!(
            found.contains("b's front redis would listen on 127.0.0.1:7400, and so would node a for its peers"),
            "{found}"
        );
    }

    #[test]
    fn nodes_of_machines_apart_may() {
        let apart = "a = { address = \"10.0.0.1:7400\" }\nb = { address = \"10.0.0.2:7400\" }";
        assert_eq!(file(apart, "").clashes(), Vec::<String>::new());
    }

    #[test]
    fn files_that_are_not_there_are_named_with_their_keys() {
        let config = file(HERE, "admin_token_file = \"/nonexistent/token\"").for_node("a", "--node").unwrap();
        let found = config.unusable_files();
        for (said, key) in found.iter().zip(["tls_dir", "admin_token_file", "front.redis.password_file"]) {
            assert!(said.starts_with(key) && said.contains("No such file"), "{said}");
        }
        assert_eq!(found.len(), 3);
    }
}
