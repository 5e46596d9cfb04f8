//! What a command sees of the data: one consistent set of keys, and a place to record effects.

use bytes::Bytes;
use hotwarm_types::Lsn;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A byte string.
    String(Bytes),
}

/// A live key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub value: Value,
    /// Group time in milliseconds at which it is gone; `None`: never (R35).
    pub expires_at_ms: Option<u64>,
    /// The position that wrote it last: its version. Ignored by `put`, which assigns the next one.
    pub version: Lsn,
}

/// A set of keys as one command (or one transaction) sees it. Writes take effect at once in the view and are
/// recorded as effects for the log. A key whose time has come is never seen.
#[expect(clippy::len_without_is_empty, reason = "a count may include keys that no longer show")]
pub trait Keyspace {
    /// Group time, in milliseconds since the Unix epoch; the same during one command.
    fn now_ms(&self) -> u64;
    /// The live entry of a key.
    fn get(&mut self, key: &[u8]) -> Option<Entry>;
    /// Replaces a key, value and expiry. `entry.version` is ignored.
    fn put(&mut self, key: &[u8], entry: Entry);
    /// Removes a key; false if it was not there.
    fn delete(&mut self, key: &[u8]) -> bool;
    /// Removes every key.
    fn clear(&mut self);
    /// How many live keys there are (keys whose time has come but are not yet reclaimed may be counted, as in Redis).
    fn len(&mut self) -> u64;
    /// The position that last changed the key, its removal included: `ZERO` if it is unknown here. WATCH compares it.
    fn version(&mut self, key: &[u8]) -> Lsn;
    /// Up to `count` live keys after `after` in an order that writes do not disturb, and where to go on: `None` at the
    /// end. A key that is there during a whole walk is returned at least once.
    fn walk(&mut self, after: Option<&[u8]>, count: usize) -> (Vec<Bytes>, Option<Bytes>);
    /// A key drawn at random, if there is one.
    fn any_key(&mut self) -> Option<Bytes>;
}
