//! Running other programs from the workspace's root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program; its output goes where ours goes.
///
/// # Errors
/// It could not be started, or it failed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", shown(command))) }
}

/// Runs a program and gives what it printed.
///
/// # Errors
/// It could not be started, or it failed; then what it printed is in the error.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{} ended with {}\n{printed}", shown(command), output.status).trim_end().to_owned());
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{} printed what is not UTF-8", shown(command)))
}

/// Whether a program can be run at all.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Where cargo puts what it builds for release.
///
/// # Errors
/// Cargo does not say.
pub fn release_dir() -> Result<PathBuf, String> {
    Ok(target_dir()?.join("release"))
}

/// Where cargo puts all that it builds.
///
/// # Errors
/// Cargo does not say.
pub fn target_dir() -> Result<PathBuf, String> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(PathBuf::from(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_program_printed_is_in_the_error() {
        let error = output(Command::new("sh").args(["-c", "echo '{\"lost\": 1}'; exit 1"])).unwrap_err();
        assert!(error.ends_with("ended with exit status: 1\n{\"lost\": 1}"), "{error}");
    }
}
