//! Clients that misbehave, and one that must be served whatever they do.

use super::support::PATIENCE;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer to bytes that need none is waited for.
const SILENCE: Duration = Duration::from_millis(200);

/// Numbers that look random and are the same in each run (SplitMix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// Sends bytes and nothing after them; gives what came back until the end, or until nothing comes any more.
pub fn throw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A node that has seen enough closes while bytes are still on their way: the rest cannot be sent then.
    if stream.write_all(bytes).is_ok() {
        drop(stream.shutdown(Shutdown::Write));
    }
    received(&mut stream)
}

fn received(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return all,
        }
    }
}

/// A client that must be served whatever others do.
pub struct Witness {
    stream: BufReader<TcpStream>,
    asked: u64,
}

impl Witness {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream), asked: 0 }
    }

    /// Counts one further, as nobody else does.
    pub fn is_served(&mut self) {
        self.asked += 1;
        assert_eq!(self.ask("INCR served"), self.asked.to_string());
    }

    /// Sends a command of words, and gives its reply if that is one value; errors and all.
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        self.stream.read_line(&mut head).unwrap();
        let head = head.trim_end();
        match head.split_at(1) {
            ("+" | ":", value) => value.to_owned(),
            ("$", "-1") => "nil".to_owned(),
            ("$", size) => {
                let mut value = vec![0; size.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut value).unwrap();
                String::from_utf8(value).unwrap().trim_end_matches("\r\n").to_owned()
            }
            _ => head.to_owned(),
        }
    }
}
