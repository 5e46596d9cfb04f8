//! What is measured: an operation, and how many of it a connection sends before it reads.

use bytes::BytesMut;
use hotwarm_resp::{Reply, write_request};

/// Connections of every case: the habit of redis-benchmark.
pub const CONNECTIONS: usize = 50;
/// Keys, chosen evenly.
pub const KEYS: u64 = 100_000;
/// What SET writes and GET finds: 16 bytes.
pub const VALUE: &[u8; 16] = b"0123456789abcdef";

/// All cases, in the order in which they are run and told.
pub const CASES: [Case; 5] = [
    Case { name: "set_c50_p1", operation: Operation::Set, pipeline: 1 },
    Case { name: "set_c50_p16", operation: Operation::Set, pipeline: 16 },
    Case { name: "incr_c50_p1", operation: Operation::Incr, pipeline: 1 },
    Case { name: "get_c50_p1", operation: Operation::Get, pipeline: 1 },
    Case { name: "get_c50_p16", operation: Operation::Get, pipeline: 16 },
];

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name in the report.
    pub name: &'static str,
    /// What is sent.
    pub operation: Operation,
    /// How many operations are one batch: sent at once, their replies awaited together.
    pub pipeline: usize,
}

/// One command on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Overwrites a key that is there.
    Set,
    /// Counts in a key that may not be there yet.
    Incr,
    /// Reads a key that is there.
    Get,
}

impl Operation {
    /// Whether it has to be durable on two nodes.
    pub fn writes(self) -> bool {
        match self {
            Self::Set | Self::Incr => true,
            Self::Get => false,
        }
    }

    /// Appends the request for key number `key`.
    pub fn write_to(self, key: u64, out: &mut BytesMut) {
        match self {
            Self::Set => write_request(&[b"SET", format!("key:{key:012}").as_bytes(), VALUE], out),
            Self::Incr => write_request(&[b"INCR", format!("counter:{key:012}").as_bytes()], out),
            Self::Get => write_request(&[b"GET", format!("key:{key:012}").as_bytes()], out),
        }
    }

    /// Whether a reply is what the command answers when it did its work.
    pub fn is_done_by(self, reply: &Reply) -> bool {
        match self {
            Self::Set => *reply == Reply::ok(),
            Self::Incr => matches!(reply, Reply::Integer(1..)),
            Self::Get => matches!(reply, Reply::Bulk(value) if value.as_ref() == VALUE),
        }
    }
}

/// The case of this name.
///
/// # Errors
/// There is none; the text names those there are.
pub fn find(name: &str) -> Result<Case, String> {
    let names = || CASES.map(|case| case.name).join(", ");
    CASES.into_iter().find(|case| case.name == name).ok_or_else(|| format!("there are {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_refusal_or_a_foreign_value_is_no_work_done() {
        let error = Reply::error("ERR no");
        for operation in [Operation::Set, Operation::Incr, Operation::Get] {
            assert!(!operation.is_done_by(&error) && !operation.is_done_by(&Reply::Null), "{operation:?}");
        }
        assert!(Operation::Get.is_done_by(&Reply::Bulk(Bytes::from_static(VALUE))));
        assert!(!Operation::Get.is_done_by(&Reply::Bulk(Bytes::from_static(b"0"))));
        assert!(Operation::Incr.is_done_by(&Reply::Integer(1)) && !Operation::Incr.is_done_by(&Reply::Integer(0)));
    }

    #[test]
    fn cases_are_found_by_their_names() {
        for case in CASES {
            assert_eq!(find(case.name), Ok(case));
        }
        assert!(find("get").unwrap_err().contains("get_c50_p1,"));
    }
}
