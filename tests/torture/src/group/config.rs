//! The group's one configuration file.

use crate::lab::Lab;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Ports of every node, at its own address.
pub const PEER_PORT: u16 = 7400;
/// Where linearizable reads and writes are taken.
pub const FRONT_PORT: u16 = 6379;
/// Where reads are answered from the node's own copy.
pub const OWN_COPY_PORT: u16 = 6380;
/// What clients must know to be let in. It opens nothing outside the lab.
pub const PASSWORD: &str = "torture";

/// The file.
pub fn path(lab: &Lab) -> PathBuf {
    lab.folder.join("hotwarm.toml")
}

/// Certificates and tickets, as `init` makes them.
pub fn authority(lab: &Lab) -> PathBuf {
    lab.folder.join("authority")
}

/// A port of a node.
pub fn address(lab: &Lab, node: usize, port: u16) -> SocketAddr {
    (lab.machines[node].address, port).into()
}

/// Its text.
pub fn text(lab: &Lab, nodes: usize, min_copies: u8) -> String {
    let mut text = String::from("[cluster]\nname = \"torture\"\nprofile = \"lan\"\n\n[nodes]\n");
    // Writing to a string cannot fail.
    for node in 0..nodes {
        let (name, address) = (&lab.machines[node].name, address(lab, node, PEER_PORT));
        let _ = writeln!(text, "{name} = {{ address = \"{address}\" }}");
    }
    let shown = |path: &Path| path.display().to_string();
    let _ = write!(
        text,
        "\n[local]\ndata_dir = \"{}/disks/{{node}}/data\"\ntls_dir = \"{}/{{node}}\"\nadmin = \"127.0.0.1:7480\"\n\
         log = {{ format = \"text\", level = \"info\" }}\n\n",
        shown(&lab.folder),
        shown(&authority(lab)),
    );
    for node in 0..nodes {
        let name = &lab.machines[node].name;
        let (front, own_copy) = (address(lab, node, FRONT_PORT), address(lab, node, OWN_COPY_PORT));
        let _ = write!(
            text,
            "[local.node.{name}]\nfront.redis.listen = \"{front}\"\nfront.own-copy.listen = \"{own_copy}\"\n\n"
        );
    }
    let password = shown(&lab.folder.join("password"));
    let _ = write!(
        text,
        "[group.main]\nengine = \"store\"\nreplication = \"sync\"\ndurability = \"fsync\"\nmin_copies = {min_copies}\n\
         history = {{ time_max = \"24h\", size_max = \"256MiB\" }}\n\n\
         [front.redis]\nprotocol = \"resp\"\nlisten = \"0.0.0.0:{FRONT_PORT}\"\nto = \"main\"\n\
         password_file = \"{password}\"\n\n\
         [front.own-copy]\nprotocol = \"resp\"\nlisten = \"0.0.0.0:{OWN_COPY_PORT}\"\nto = \"main\"\nreads = \"any\"\n\
         password_file = \"{password}\"\n"
    );
    text
}
