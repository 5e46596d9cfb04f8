//! Inputs as files: the corpus and the regressions that are committed, and the examples for a search.

use crate::target::Target;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folders of a package that hold inputs, one folder below for each target: what reaches code that nothing else does, and
/// what has failed once.
const FOLDERS: [&str; 2] = ["corpus", "regressions"];

/// Every input that is committed for a target, the examples of the program itself first; each with a name for people.
///
/// # Errors
/// A file cannot be read.
pub fn committed(target: &Target) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut all: Vec<(String, Vec<u8>)> =
        (target.seeds)().into_iter().map(|(name, input)| (name.to_owned(), input)).collect();
    for folder in FOLDERS {
        let folder = package().join(folder).join(target.name);
        if folder.is_dir() {
            all.extend(read_inputs(&folder)?);
        }
    }
    Ok(all)
}

/// The inputs of a folder, in the order of their names, or of one file.
///
/// # Errors
/// A file cannot be read.
pub fn read_inputs(path: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let wrong = |error: io::Error| format!("{}: {error}", path.display());
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(wrong)?;
        paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(wrong)?;
        paths.sort();
    }
    let read = |path: PathBuf| {
        let input = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((path.display().to_string(), input))
    };
    paths.into_iter().map(read).collect()
}

/// Where this package's sources are.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Target {
    /// Writes the examples as files into `folder/examples`, and the words as a dictionary of libFuzzer into
    /// `folder/words`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_examples(&self, folder: &Path) -> io::Result<()> {
        let examples = folder.join("examples");
        fs::create_dir_all(&examples)?;
        for (name, input) in (self.seeds)() {
            fs::write(examples.join(name.replace([' ', '/', ':'], "-")), input)?;
        }
        let line = |word: String| {
            let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{escaped}\"\n")
        };
        // Never empty: libFuzzer refuses a dictionary that is.
        let words: String = (self.words)().into_iter().map(line).collect();
        fs::write(folder.join("words"), format!("# What is worth trying.\n{words}"))
    }
}
