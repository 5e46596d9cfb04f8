//! The admin API against requests that are wrong, too large, or never whole.

use super::client::Witness;
use super::support::{Group, PATIENCE};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request with headers that are good enough to be looked at.
fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request and gives the answer, after which the node closes.
fn answer_to(admin: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A node that has seen enough answers and closes while bytes are still on their way.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn wrong_requests_are_answered_by_their_fault_and_change_nothing() {
    let group = Group::start(&["a"]);
    let admin = group.nodes[0].admin;
    let mut witness = Witness::connect(group.nodes[0].front);
    let before = group.status(0).unwrap();
    let get = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n").into_bytes();
    let headers: String = (0..1_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let chunks = [&b"40000\r\n"[..], &[b' '; 0x40000], b"\r\n2\r\n{}\r\n0\r\n\r\n"].concat();
    let chunked = |chunks: &[u8]| {
        let more = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        [get("POST /resume", more), chunks.to_vec()].concat()
    };
    let cases: [(Vec<u8>, &str); 24] = [
        (get("GET /nothing", ""), "404"),
        (get("DELETE /status", ""), "405"),
        (get("BREW /status", ""), "405"),
        (get("GET /apply", ""), "405"),
        (get("GET /../../etc/passwd", ""), "404"),
        (get("GET /status", "Origin: http://evil.example\r\n"), "403"),
        (b"GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec(), "403"),
        (get("POST /resume", "Content-Length: 2\r\n"), "400"),
        (get("POST /apply", "Content-Type: application/json\r\nContent-Length: 300000\r\n"), "413"),
        (get("POST /apply", "Content-Type: application/json\r\nContent-Length: -1\r\n"), "400"),
        (get("POST /apply", "Content-Length: 1\r\nContent-Length: 2\r\n"), "400"),
        (get("GET /status", &headers), "431"),
        (get("GET /status", &format!("X: {}\r\n", "a".repeat(1 << 20))), "431"),
        (get(&format!("GET /{}", "a".repeat(1 << 20)), ""), "431"),
        (chunked(&chunks), "400"),
        (chunked(b"zz\r\n"), "400"),
        (post("/apply", b""), "400"),
        (post("/apply", b"{"), "400"),
        (post("/apply", &[b'['; 100_000]), "400"),
        (post("/apply", b"{\"expected_version\": 1, \"text\": \"\\ud800\"}"), "400"),
        (post("/apply", &[0xff; 1_000]), "400"),
        (post("/pause", b"{\"length_ms\": -1, \"reason\": \"x\"}"), "400"),
        (post("/pause", b"{\"length_ms\": 99999999999999999999, \"reason\": \"x\"}"), "400"),
        (post("/switchover", b"{\"to\": \"nobody\"}"), "400"),
    ];
    for (request, wanted) in cases {
        let answer = answer_to(admin, &request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "to {shown:?}: {answer:?}");
    }
    witness.is_served();
    let after = group.status(0).unwrap();
    assert_eq!((after.register_version, after.pause), (before.register_version, None));
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}

/// A client that sends a byte now and then holds its own connection, for some seconds, and nobody else's. The patience of
/// the test is far below the minute after which any request ends.
#[test]
fn slow_requests_end_after_some_seconds() {
    let group = Group::start(&["a"]);
    let admin = group.nodes[0].admin;
    let slow = |begin: &'static [u8], wanted: &'static str| {
        let began = Instant::now();
        // The node takes them in this order, before any request that is made later.
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(begin).unwrap();
        std::thread::spawn(move || {
            let mut said = Vec::new();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            loop {
                assert!(began.elapsed() < PATIENCE, "the node still waits for the rest of {begin:?}");
                let mut bytes = [0; 1024];
                match stream.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(count) => said.extend_from_slice(&bytes[..count]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => drop(stream.write_all(b"a")),
                    Err(_) => break,
                }
            }
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.starts_with(wanted), "{said:?}");
        })
    };
    let threads = [
        slow(b"", ""),
        slow(b"GET /status HTTP/1.1\r\nX: ", ""),
        slow(
            b"POST /resume HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{",
            "HTTP/1.1 408 ",
        ),
    ];
    let mut answered = 0;
    while threads.iter().all(|thread| !thread.is_finished()) {
        assert!(group.status(0).is_some());
        // This one has waited for none of them.
        answered += usize::from(threads.iter().all(|thread| !thread.is_finished()));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(answered > 0, "the operator was kept waiting");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
