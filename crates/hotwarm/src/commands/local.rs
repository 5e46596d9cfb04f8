//! What needs no running node: run one, check a file, print completions.

use crate::failure::Failure;
use crate::flags::{self, Flags, InFile};
use crate::nodes::config_path;
use crate::render::{json, text};
use crate::{Verdict, print};
use clap::CommandFactory;
use clap_complete::Shell;
use hotwarm_node::config::{self, Fault, Faults, LoadError};
use hotwarm_node::recover::RecoverPlan;
use hotwarm_node::run::RunOptions;
use std::path::Path;
use std::process::ExitCode;

/// Runs a node until it is told to stop; gives the node's own exit code.
pub fn run(file: &InFile) -> Result<ExitCode, Failure> {
    let config = config::load(&config_path(file), file.node.as_deref())?;
    Ok(hotwarm_node::run::run(RunOptions { config }))
}

/// Checks a configuration; for a named node, which must be this machine's, also the files that it needs here.
pub fn check(flags: &flags::Check) -> Result<Verdict, Failure> {
    let path = config_path(&flags.file);
    let file = match config::load_file(&path) {
        Ok(file) => file,
        Err(LoadError::Faulty(faults)) => {
            print(&if flags.json { json::faults(&faults) } else { format!("{faults}\n") })?;
            return Ok(Verdict::No);
        }
        Err(error) => return Err(error.into()),
    };
    let mut wrong = file.clashes();
    if let Some(name) = &flags.file.node {
        wrong.extend(file.for_node(name, "--node")?.unusable_files());
    }
    if !wrong.is_empty() {
        let list = wrong.into_iter().map(|text| Fault { line: 0, text }).collect();
        let faults = Faults { file: file.path.display().to_string(), list };
        print(&if flags.json { json::faults(&faults) } else { format!("{faults}\n") })?;
        return Ok(Verdict::No);
    }
    print(&if flags.json { json::file(&file) } else { text::file(&file) })?;
    Ok(Verdict::Yes)
}

/// Makes a new group of one from a stopped node's folder.
pub fn recover(flags: &flags::Recover) -> Result<Verdict, Failure> {
    let absolute = |path: &Path| std::path::absolute(path);
    let plan = RecoverPlan { from: absolute(&flags.from)?, to: absolute(&flags.to)?, out: absolute(&flags.out)? };
    let made = plan.run()?;
    let shown = if flags.json {
        json::pretty(&serde_json::json!({
            "cluster": made.cluster.to_string(),
            "node": made.node,
            "data_dir": plan.to,
            "tls_dir": made.tls_dir,
            "end_lsn": made.end.lsn.0,
            "committed_lsn": made.committed.0,
            "epoch": made.epoch.0,
            "may_be_lost": made.may_be_lost,
        }))
    } else {
        text::recovered(&made, &plan)
    };
    print(&shown)?;
    Ok(Verdict::Yes)
}

/// Prints completions.
pub fn completions(shell: Shell) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "hotwarm", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Verdict::Yes)
}
