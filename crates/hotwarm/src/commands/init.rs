//! `hotwarm init`: a new group, from nothing, without a question.

use crate::failure::Failure;
use crate::flags;
use crate::init_file;
use crate::render::json;
use crate::{Verdict, print};
use hotwarm_node::birth::{InitPlan, NodePlan};
use hotwarm_node::config::File;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Writes the group's authority, the folder of each node, and the configuration.
pub fn init(flags: &flags::Init) -> Result<Verdict, Failure> {
    let out = std::path::absolute(&flags.out)?;
    let path = out.join("hotwarm.toml");
    if path.exists() {
        return Err(Failure::new(format!("{} exists: choose another folder with --out", path.display())));
    }
    refuse_doubled_names(flags)?;
    let text = init_file::text(flags, &out);
    // The file is read back before anything is written: what is wrong with the flags is wrong with it.
    let file = File::parse(&text, &path)?;
    let nodes = file
        .nodes
        .iter()
        .map(|node| NodePlan {
            name: node.name.clone(),
            address: node.address.clone(),
            role: node.role,
            priority: node.priority,
        })
        .collect();
    let plan = InitPlan { cluster_name: flags.name.clone(), nodes, settings: file.agreed.settings() };
    let made = plan.write(&out)?;
    std::fs::write(&path, &text).map_err(|error| Failure::because(&format!("write {}", path.display()), &error))?;
    let shown = if flags.json {
        json::pretty(&serde_json::json!({
            "cluster": made.cluster.to_string(),
            "config": path,
            "folders": made.folders,
        }))
    } else {
        next_steps(flags, &path, &out)
    };
    print(&shown)?;
    Ok(Verdict::Yes)
}

fn refuse_doubled_names(flags: &flags::Init) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for node in flags.nodes.iter().chain(&flags.witness) {
        if !seen.insert(&node.name) {
            return Err(Failure::new(format!(
                "the name \"{0}\" is given twice: each node has a name of its own (--node {0}=..., --witness {0}=...)",
                node.name
            )));
        }
    }
    Ok(())
}

fn next_steps(flags: &flags::Init, path: &Path, out: &Path) -> String {
    let mut text = format!("The group \"{}\" is made in {}.\n\n", flags.name, out.display());
    let names = || flags.nodes.iter().chain(&flags.witness).map(|node| node.name.as_str());
    if init_file::on_one_machine(flags) {
        let _ = writeln!(text, "Start each node, here:");
        for name in names() {
            let _ = writeln!(text, "  hotwarm run --config {} --node {name} &", path.display());
        }
        let _ = writeln!(text, "Then look at them:\n  hotwarm status --config {}", path.display());
    } else {
        let _ = writeln!(text, "For each node NAME ({}), on its machine:", names().collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "  copy {} to /etc/hotwarm/hotwarm.toml (the same file for all)", path.display());
        let _ = writeln!(text, "  copy {}/NAME to /etc/hotwarm/tls", out.display());
        let _ = writeln!(text, "  hotwarm run --node NAME");
    }
    let _ =
        writeln!(text, "\nKeep {}/ca.key safe and off the nodes: it can admit anybody to the group.", out.display());
    text
}
