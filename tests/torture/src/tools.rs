//! Running the programs of others that the lab is made with, and saying which of them are missing.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program, the Debian package that has it, and what for.
const NEEDED: [(&str, &str, &str); 7] = [
    ("ip", "iproute2", "network namespaces"),
    ("nft", "nftables", "cuts, loss and resets"),
    ("mkfs.ext4", "e2fsprogs", "a disk for each node"),
    ("mount", "mount", "a disk for each node"),
    ("losetup", "mount", "a disk for each node"),
    ("unshare", "util-linux", "clocks since boot that differ"),
    ("strace", "strace", "syncs that fail"),
];

/// Checks that this process may do what the lab needs, and that every program is there.
///
/// # Errors
/// All that is missing, with the packages that have it.
pub fn check() -> Result<(), String> {
    let mut missing: Vec<String> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root is needed: for namespaces, TUN devices, loop mounts and control groups".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("/dev/net/tun is missing (modprobe tun; in a container: --device /dev/net/tun)".to_owned());
    }
    for (program, package, what_for) in NEEDED {
        if !is_there(program) {
            missing.push(format!("{program} is missing, for {what_for} (Debian: apt-get install {package})"));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    places.map(|folder| folder.join(program)).any(|place| place.is_file())
}

/// Runs a program to its end; gives what it printed.
///
/// # Errors
/// It could not be started, or it failed; then what it said is in the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    run_with(program, arguments, "")
}

/// The same, with an input.
///
/// # Errors
/// As for [`run`].
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let failed = |error: &dyn Display| format!("{}: {error}", shown());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    // The inputs here are shorter than a pipe: nothing blocks.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|error| failed(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(format!("{} ended with {}: {}", shown(), output.status, String::from_utf8_lossy(&said).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
