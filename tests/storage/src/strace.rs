//! Lines of strace(1), parsed: the system calls of a program in their order.
//!
//! A line is `PID name(argument, ...) = result`, the process id only with `-f`. Strings are in double quotes with the
//! escapes of C; with `-s` large enough none is cut short, and one that is fails the parse. Calls of two threads that
//! overlap are shown in two parts: the programs recorded here have one thread, so that fails the parse, too.

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A string: a path, or bytes that are written.
    Bytes(Vec<u8>),
    /// Anything else, as it stands there.
    Other(String),
}

/// A system call that has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What it returned; `None` if it failed.
    pub result: Option<i64>,
}

impl SystemCall {
    /// The argument at `index` as text.
    ///
    /// # Errors
    /// There is none, or it is bytes that are not UTF-8.
    pub fn text(&self, index: usize) -> Result<&str, String> {
        match self.arguments.get(index) {
            Some(Argument::Other(text)) => Ok(text),
            Some(Argument::Bytes(bytes)) => str::from_utf8(bytes).map_err(|_| format!("{self:?} names no path")),
            None => Err(format!("{} has no argument {index}", self.name)),
        }
    }

    /// The argument at `index` as a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, index: usize) -> Result<i64, String> {
        let text = self.text(index)?;
        text.parse().map_err(|_| format!("argument {index} of {} is {text:?}, not a number", self.name))
    }

    /// The argument at `index` as bytes.
    ///
    /// # Errors
    /// It is no string.
    pub fn bytes(&self, index: usize) -> Result<&[u8], String> {
        match self.arguments.get(index) {
            Some(Argument::Bytes(bytes)) => Ok(bytes),
            other => Err(format!("argument {index} of {} is {other:?}, not bytes", self.name)),
        }
    }
}

/// The call in a line; `None` for a line about a signal or an end.
///
/// # Errors
/// The line does not read as one.
pub fn parse(line: &[u8]) -> Result<Option<SystemCall>, String> {
    let unreadable = |why: &str| {
        let begin: String = line.iter().take(120).map(|byte| byte.escape_ascii().to_string()).collect();
        format!("strace printed what cannot be read ({why}): {begin}")
    };
    let rest = line.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = if digits > 0 { rest[digits..].trim_ascii_start() } else { rest };
    if rest.is_empty() || rest.starts_with(b"+++") || rest.starts_with(b"---") {
        return Ok(None);
    }
    if rest.starts_with(b"<...") || rest.ends_with(b"<unfinished ...>") {
        return Err(unreadable("calls of two threads overlap"));
    }
    let open = rest.iter().position(|byte| *byte == b'(').ok_or_else(|| unreadable("no arguments"))?;
    let name = String::from_utf8_lossy(&rest[..open]).into_owned();
    let (arguments, rest) = arguments(&rest[open + 1..]).map_err(unreadable)?;
    let text = String::from_utf8_lossy(rest);
    let result = text.trim_start().strip_prefix('=').ok_or_else(|| unreadable("no result"))?.trim_start();
    let number = result.split(|c: char| c.is_whitespace() || c == '<').next().unwrap_or_default();
    let result = match number {
        "?" => None,
        hexadecimal if hexadecimal.starts_with("0x") => i64::from_str_radix(&hexadecimal[2..], 16).ok(),
        decimal => Some(decimal.parse().map_err(|_| unreadable("a result that is no number"))?),
    };
    Ok(Some(SystemCall { name, arguments, result: result.filter(|result| *result >= 0) }))
}

/// The arguments up to the closing parenthesis, and what follows it.
fn arguments(mut rest: &[u8]) -> Result<(Vec<Argument>, &[u8]), &'static str> {
    let mut arguments = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        let argument = if rest.first() == Some(&b'"') {
            let (bytes, after) = string(&rest[1..])?;
            rest = after;
            Argument::Bytes(bytes)
        } else {
            let end = plain_end(rest)?;
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end..];
            Argument::Other(text)
        };
        if argument != Argument::Other(String::new()) {
            arguments.push(argument);
        }
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            Some((b',', after)) => rest = after,
            Some((b')', after)) => return Ok((arguments, after)),
            Some(_) => return Err("a string is cut short"),
            None => return Err("the arguments do not end"),
        }
    }
}

/// Where an argument that is no string ends: at a comma or parenthesis outside of brackets and strings.
fn plain_end(bytes: &[u8]) -> Result<usize, &'static str> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b',' | b')' if depth == 0 => return Ok(at),
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.checked_sub(1).ok_or("brackets do not match")?,
            b'"' => {
                let (_, after) = string(&bytes[at + 1..])?;
                at = bytes.len() - after.len();
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Err("the arguments do not end")
}

/// A string after its opening quote, and what follows the closing one.
fn string(bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let byte = *bytes.get(at).ok_or("a string does not end")?;
        at += 1;
        match byte {
            b'"' => return Ok((out, &bytes[at..])),
            b'\\' => {
                let (value, length) = escape(&bytes[at..])?;
                out.push(value);
                at += length;
            }
            plain => out.push(plain),
        }
    }
}

/// The byte of an escape after its backslash, and how many characters it takes.
fn escape(bytes: &[u8]) -> Result<(u8, usize), &'static str> {
    let digits = bytes.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    if digits > 0 {
        let value = bytes[..digits].iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
        return u8::try_from(value).map(|value| (value, digits)).map_err(|_| "an escape is no byte");
    }
    let value = match bytes.first().ok_or("a string ends with a backslash")? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 11,
        b'f' => 12,
        same @ (b'"' | b'\\') => *same,
        _ => return Err("an unknown escape"),
    };
    Ok((value, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> SystemCall {
        parse(line.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn calls_are_read_with_their_bytes() {
        let write = call(r#"123 pwrite64(4, "a\0\0017\"\\\n\377,)", 9, 4096) = 9"#);
        assert_eq!((write.name.as_str(), write.result), ("pwrite64", Some(9)));
        assert_eq!(write.bytes(1).unwrap(), b"a\0\x017\"\\\n\xff,)");
        assert_eq!((write.number(0).unwrap(), write.number(3).unwrap()), (4, 4096));
        let open = call(r#"openat(AT_FDCWD, "/a b", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 3"#);
        assert_eq!(open.text(1).unwrap(), "/a b");
        assert_eq!(open.text(2).unwrap(), "O_RDWR|O_CREAT|O_CLOEXEC");
        assert_eq!(call(r#"unlink("/x") = -1 ENOENT (No such file or directory)"#).result, None);
        let mapped = call("mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3, 0) = 0x7f0000000000");
        assert_eq!(mapped.result, Some(0x7f00_0000_0000));
        assert_eq!(call(r#"writev(1, [{iov_base="a)", iov_len=2}], 1) = 2"#).arguments.len(), 3);
        assert_eq!(call("getpid() = 5").arguments, []);
    }

    #[test]
    fn what_is_no_call_is_nothing_and_what_is_half_a_call_is_an_error() {
        assert_eq!(parse(b"123 +++ exited with 0 +++"), Ok(None));
        assert_eq!(parse(b"123 --- SIGCHLD {si_signo=SIGCHLD} ---"), Ok(None));
        for line in [
            r#"write(1, "abc"..., 100) = 100"#,
            r#"write(1, "abc"#,
            "123 fsync(4 <unfinished ...>",
            "123 <... fsync resumed>) = 0",
            "nonsense",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
