//! Bytes that are no request, and requests that are not whole.

use super::client::{Noise, Witness, throw};
use super::support::Group;
use std::io::Write;
use std::net::TcpStream;

#[test]
fn no_bytes_on_any_port_end_a_node_or_disturb_its_clients() {
    let group = Group::start(&["a"]);
    let (pid, node) = (group.pid(0), &group.nodes[0]);
    let before = group.status(0).unwrap();
    let mut witness = Witness::connect(node.front);
    witness.is_served();
    let mut noise = Noise(7);
    for address in [node.front, node.own_copy, node.peer, node.admin] {
        for count in [0, 1, 7, 64, 1_000, 70_000] {
            throw(address, &noise.bytes(count));
            witness.is_served();
        }
        // A TLS record, and a frame, that announce more than anybody may send; an HTTP header without end.
        throw(address, &[&[0x16, 3, 1, 0xff, 0xff][..], &noise.bytes(300)].concat());
        throw(address, &[&[0xff; 8][..], &noise.bytes(300)].concat());
        throw(address, &[b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat());
        throw(address, b"POST /apply HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{");
        witness.is_served();
        // What begins well and is wrong in one place, or two, gets further than what is wrong from the start.
        for good in good_requests() {
            for _ in 0..40 {
                let mut bytes = good.clone();
                for _ in 0..=noise.next() % 2 {
                    let at = noise.next() as usize % bytes.len();
                    bytes[at] = noise.next() as u8;
                }
                throw(address, &bytes);
            }
            witness.is_served();
        }
    }
    assert_eq!(group.pid(0), pid, "the node was started anew");
    assert_eq!(group.status(0).unwrap().register_version, before.register_version, "garbage changed the group");
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}

/// One for each port that would be taken there, and that changes nothing that is looked at.
fn good_requests() -> [Vec<u8>; 4] {
    let json = r#"{"length_ms": 1000, "reason": "", "zzz": [1.5, {"a": null}]}"#;
    let hello =
        [&[0x16, 3, 1, 0, 0x40, 1, 0, 0, 0x3c, 3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 0x11]].concat();
    [
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec(),
        format!(
            "POST /pause HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        )
        .into_bytes(),
        hello,
        [&b"HWF\x01\x01\0\0\0\x01\0\0\0\x08\0\0\0"[..], &[0; 16]].concat(),
    ]
}

#[test]
fn faulty_requests_are_refused_by_name_and_cut_ones_are_forgotten() {
    let group = Group::start(&["a"]);
    let front = group.nodes[0].front;
    let mut witness = Witness::connect(front);
    let long_line = [&b"GET "[..], &vec![b'a'; 100 << 10]].concat();
    let faulty: [(&[u8], &str); 8] = [
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-7\r\n", "invalid bulk length"),
        (b"*1\r\n$999999999\r\n", "invalid bulk length"),
        (b"GET \"open\r\n", "unbalanced quotes in request"),
        (&long_line, "too big inline request"),
    ];
    for (bytes, wanted) in faulty {
        let reply = throw(front, bytes);
        let reply = String::from_utf8_lossy(&reply);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(reply, format!("-ERR Protocol error: {wanted}\r\n"), "to {shown:?}");
        witness.is_served();
    }
    let whole = b"*3\r\n$3\r\nSET\r\n$3\r\ncut\r\n$5\r\nvalue\r\n";
    for end in 0..whole.len() {
        let mut stream = TcpStream::connect(front).unwrap();
        stream.write_all(&whole[..end]).unwrap();
    }
    witness.is_served();
    assert_eq!(throw(front, b"EXISTS cut\r\n"), b":0\r\n", "a request that was cut off was executed");
    assert!(!group.log(0).contains("panicked"), "{}", group.log(0));
}
