//! Transcripts of `redis-cli`: the commands of a session, each after `> `, and below it what the program shows.
//!
//! `@` stands for the beginning of the names of the session's own keys, so that sessions do not meet. Lines that begin
//! with `# ` say what for. Blanks at the ends of lines do not count.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A session of one connection.
pub struct Transcript {
    pub name: String,
    script: String,
    replies: String,
}

/// What came of it.
pub enum Played {
    /// All replies are as written.
    AsWritten,
    /// The connection broke; what came before is as written.
    Broken,
    /// It is not as written, at that line.
    Otherwise(String),
}

impl Transcript {
    /// Reads `NAME.txt` of the folder of transcripts.
    pub fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat/redis_cli");
        let path = folder.join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mut script, mut replies) = (String::new(), String::new());
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (whose, line) = line.strip_prefix("> ").map_or((&mut replies, line), |command| (&mut script, command));
            whose.push_str(line.trim_end());
            whose.push('\n');
        }
        Self { name: name.to_owned(), script, replies }
    }

    /// Plays it to a front, with `own` before its keys' names.
    pub fn play(&self, port: u16, protocol: &str, own: &str) -> Played {
        let script = self.script.replace('@', own);
        let shown = redis_cli(port, &[protocol, "--no-raw"], script.as_bytes());
        let wanted = self.replies.replace('@', own);
        compare(&shown, &wanted).unwrap_or_else(|line| Played::Otherwise(format!("{}: {line}", self.name)))
    }
}

/// Runs `redis-cli` and gives what it shows, its errors among its replies.
pub fn redis_cli(port: u16, arguments: &[&str], input: &[u8]) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(arguments);
    command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("redis-cli: {error}"));
    // This process must not keep the pipe open itself.
    drop(command);
    let mut stdin = child.stdin.take().unwrap();
    let shown = std::thread::scope(|scope| {
        scope.spawn(move || {
            // Who has nothing more to ask may end before all is read.
            drop(stdin.write_all(input));
        });
        let mut shown = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut shown).unwrap();
        shown
    });
    child.wait().unwrap();
    // Of one error it says so in a line of its own.
    String::from_utf8_lossy(&shown).replace("\nI/O error\n", "Error: I/O error\n")
}

/// Whether `redis-cli` tells by this line that its connection broke, or that there is nobody to connect to.
pub fn is_broken(line: &str) -> bool {
    ["Error: ", "Could not connect to Redis"].iter().any(|begin| line.starts_with(begin))
}

/// Whether `redis-cli` tells by this line that a reply took long, as in `(0.76s)`.
fn is_duration(line: &str) -> bool {
    let number = line.strip_prefix('(').and_then(|rest| rest.strip_suffix("s)"));
    number.is_some_and(|number| number.parse::<f64>().is_ok())
}

fn compare(shown: &str, wanted: &str) -> Result<Played, String> {
    let mut shown = shown.lines().filter(|line| !is_duration(line));
    let mut wanted = wanted.lines();
    loop {
        match (shown.next(), wanted.next()) {
            (None, None) => return Ok(Played::AsWritten),
            (Some(shown), _) if is_broken(shown) => return Ok(Played::Broken),
            (Some(shown), Some(wanted)) if shown.trim_end() == wanted => {}
            (shown, wanted) => return Err(format!("{shown:?} instead of {wanted:?}")),
        }
    }
}
