//! Two states behind one log, against a model that keeps a whole map for each position: random commands, blocks,
//! commits, feeds, flushes, cuts, takeovers and crashes. A failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use bytes::Bytes;
use common::{Dice, Log, open, string, walk_all};
use hotwarm_store::keyspace::{Entry, Keyspace};
use hotwarm_store::tree::MapTree;
use hotwarm_store::{KeyCounts, State};
use hotwarm_types::Lsn;
use std::collections::BTreeMap;

type Keys = BTreeMap<Bytes, Entry>;

/// The plain keyspace: a map, and what this command has changed in it.
struct ModelKeyspace<'a> {
    base: &'a Keys,
    keys: Keys,
    cleared: bool,
    written: BTreeMap<Bytes, bool>,
    next: Lsn,
    now_ms: u64,
    /// What the commit position says of the time, and whether a walk has told more.
    committed_ms: u64,
    tells_time: bool,
}

impl ModelKeyspace<'_> {
    fn is_logged(&self) -> bool {
        self.cleared || self.tells_time || self.written.iter().any(|(key, put)| *put || self.base.contains_key(key))
    }
}

impl Keyspace for ModelKeyspace<'_> {
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn get(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.keys.get(key).cloned()?;
        if entry.expires_at_ms.is_some_and(|at| at <= self.now_ms) {
            self.keys.remove(key);
            self.written.insert(Bytes::copy_from_slice(key), false);
            return None;
        }
        Some(entry)
    }

    fn put(&mut self, key: &[u8], entry: Entry) {
        let key = Bytes::copy_from_slice(key);
        self.keys.insert(key.clone(), Entry { version: self.next, ..entry });
        self.written.insert(key, true);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let there = self.get(key).is_some();
        if there {
            self.keys.remove(key);
            self.written.insert(Bytes::copy_from_slice(key), false);
        }
        there
    }

    fn clear(&mut self) {
        self.cleared = true;
        self.keys.clear();
        self.written.clear();
    }

    fn len(&mut self) -> u64 {
        self.keys.len() as u64
    }

    fn version(&mut self, key: &[u8]) -> Lsn {
        self.keys.get(key).map_or(Lsn::ZERO, |entry| entry.version)
    }

    fn walk(&mut self, _after: Option<&[u8]>, _count: usize) -> (Vec<Bytes>, Option<Bytes>) {
        // It removes nothing.
        let (now_ms, committed_ms) = (self.now_ms, self.committed_ms);
        let is_gone = |entry: &Entry, at_ms: u64| entry.expires_at_ms.is_some_and(|at| at <= at_ms);
        self.tells_time |= self.keys.values().any(|entry| is_gone(entry, now_ms) && !is_gone(entry, committed_ms));
        let shown = self.keys.iter().filter(|(_, entry)| !is_gone(entry, now_ms));
        (shown.map(|(key, _)| key.clone()).collect(), None)
    }

    fn any_key(&mut self) -> Option<Bytes> {
        let live = |entry: &Entry| entry.expires_at_ms.is_none_or(|at| at > self.now_ms);
        self.keys.iter().find(|(_, entry)| live(entry)).map(|(key, _)| key.clone())
    }
}

fn key(dice: &mut Dice) -> [u8; 2] {
    [b'k', dice.roll(14) as u8]
}

/// One random command; what it saw.
fn command(dice: &mut Dice, keyspace: &mut dyn Keyspace) -> String {
    let mut seen = String::new();
    for _ in 0..1 + dice.roll(3) {
        let key = key(dice);
        let part = match dice.roll(24) {
            0..8 => {
                let entry = string([b'v', dice.roll(200) as u8]);
                let life_ms = (dice.roll(3) == 0).then(|| dice.roll(400));
                let expires_at_ms = life_ms.map(|life_ms| keyspace.now_ms() + 1 + life_ms);
                keyspace.put(&key, Entry { expires_at_ms, ..entry });
                String::new()
            }
            8..13 => format!("{:?}", keyspace.get(&key).map(|entry| (entry.value, entry.expires_at_ms, entry.version))),
            13..17 => format!("{}", keyspace.delete(&key)),
            17..20 => match keyspace.get(&key) {
                Some(entry) => {
                    keyspace.put(&key, Entry { expires_at_ms: None, ..entry });
                    "kept".into()
                }
                None => "none".into(),
            },
            20 => format!("{}", keyspace.len()),
            21 => format!("{:?}", walk_all(keyspace)),
            22 if dice.roll(3) == 0 => {
                keyspace.clear();
                "cleared".into()
            }
            _ => format!("{}", keyspace.any_key().is_some()),
        };
        seen.push_str(&part);
        seen.push(' ');
    }
    seen
}

struct Node {
    state: State,
    tree: MapTree,
}

struct World {
    dice: Dice,
    log: Log,
    hot: Node,
    warm: Node,
    /// The keys after each position that may still be looked at.
    history: BTreeMap<Lsn, Keys>,
    now_ms: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let node = || {
            let tree = MapTree::new();
            Node { state: open(&tree), tree }
        };
        let history = BTreeMap::from([(Lsn::ZERO, Keys::new())]);
        let mut world =
            Self { dice: Dice(seed), log: Log::default(), hot: node(), warm: node(), history, now_ms: 1_000 };
        world.start_epoch();
        world
    }

    fn keys_at(&self, at: Lsn) -> &Keys {
        self.history.range(..=at).next_back().unwrap().1
    }

    fn start_epoch(&mut self) {
        let block = self.log.start_epoch();
        self.hot.state.stage(&block).unwrap();
        self.warm.state.stage(&block).unwrap();
    }

    fn execute(&mut self) {
        self.now_ms += self.dice.roll(30);
        let end = self.hot.state.end();
        let base = self.keys_at(end).clone();
        let at_start = Dice(self.dice.0);
        let mut model = ModelKeyspace {
            base: &base,
            keys: base.clone(),
            cleared: false,
            written: BTreeMap::new(),
            next: end.next(),
            now_ms: self.now_ms,
            committed_ms: self.hot.state.committed_stamp_ms(),
            tells_time: false,
        };
        let expected = command(&mut self.dice, &mut model);
        let mut dice = at_start;
        let mut execution = self.hot.state.begin(self.now_ms);
        assert_eq!(execution.now_ms(), self.now_ms);
        let seen = command(&mut dice, &mut execution);
        assert_eq!(seen, expected);
        let executed = execution.finish(None, b"").unwrap();
        assert_eq!(executed.lsn, model.is_logged().then(|| end.next()));
        if let Some(lsn) = executed.lsn {
            let keys = std::mem::take(&mut model.keys);
            self.history.insert(lsn, keys);
        }
    }

    /// Removes some of what has expired, unasked: never anything else.
    fn expire(&mut self) -> usize {
        let end = self.hot.state.end();
        let base = self.keys_at(end).clone();
        let count = self.hot.state.expire(self.now_ms, usize::MAX).unwrap();
        assert_eq!(self.hot.state.end() != end, count > 0);
        if count > 0 {
            let end = self.hot.state.end();
            let mut keys = base.clone();
            let mut view = self.hot.state.view_at_least(0, end);
            keys.retain(|key, _| view.get(key).is_some());
            let gone = |key: &Bytes| base[key].expires_at_ms.is_some_and(|at| at <= self.now_ms);
            assert!(base.keys().filter(|key| !keys.contains_key(*key)).all(gone));
            assert_eq!(base.len() - keys.len(), count);
            self.history.insert(end, keys);
        }
        count
    }

    fn propose(&mut self) {
        for block in self.log.take(&mut self.hot.state) {
            self.hot.state.stage(&block).unwrap();
            self.warm.state.stage(&block).unwrap();
        }
    }

    /// The end of some block at or past `from`.
    fn boundary(&mut self, from: Lsn) -> Lsn {
        let ends: Vec<Lsn> = self.log.blocks.iter().map(|block| block.last).filter(|last| *last >= from).collect();
        let index = self.dice.roll(ends.len().max(1) as u64) as usize;
        ends.get(index).copied().unwrap_or(from)
    }

    fn cut(&mut self) {
        let committed = self.hot.state.committed().lsn.max(self.warm.state.committed().lsn);
        let last = self.boundary(committed);
        self.log.cut(last);
        for node in [&mut self.hot, &mut self.warm] {
            node.state.truncate(last).unwrap();
            assert_eq!(node.state.end(), last);
        }
        self.history.retain(|lsn, _| *lsn <= last);
        if self.dice.roll(2) == 0 {
            std::mem::swap(&mut self.hot, &mut self.warm);
        }
        self.start_epoch();
    }

    fn crash_warm(&mut self) {
        let committed = self.warm.state.committed().lsn;
        let tree = self.warm.tree.crash();
        self.warm = Node { state: open(&tree), tree };
        assert_eq!(self.warm.state.committed().lsn, self.warm.state.applied());
        self.log.replay(&mut self.warm.state);
        self.warm.state.commit(committed).unwrap();
    }

    fn check(&mut self) {
        let at = self.boundary(self.hot.state.committed().lsn).max(self.hot.state.committed().lsn);
        let positions = [self.hot.state.committed().lsn, self.warm.state.committed().lsn, at];
        let models = positions.map(|at| self.keys_at(at).clone());
        let now_ms = self.now_ms - self.dice.roll(60);
        let hot = &mut self.hot.state;
        check_view(&mut hot.committed_view(now_ms), &models[0], now_ms);
        check_view(&mut self.warm.state.committed_view(now_ms), &models[1], now_ms);
        let mut view = hot.view_at_least(now_ms, at);
        check_view(&mut view, &models[2], now_ms);
        let seen = view.finish().unwrap();
        assert!(seen.touched <= at, "a view never looks past its position");
    }

    fn step(&mut self) {
        match self.dice.roll(43) {
            0..18 => self.execute(),
            18..24 => self.propose(),
            24..30 => {
                let upto = self.boundary(self.hot.state.committed().lsn);
                self.hot.state.commit(upto).unwrap();
                if self.dice.roll(3) > 0 {
                    let upto = self.boundary(self.warm.state.committed().lsn).min(upto);
                    self.warm.state.commit(upto).unwrap();
                }
            }
            30..34 => {
                let node = if self.dice.roll(2) == 0 { &self.hot } else { &self.warm };
                node.state.feeder().feed().unwrap();
                if self.dice.roll(2) == 0 {
                    node.state.feeder().flush().unwrap();
                }
            }
            34..38 => self.check(),
            38 => self.cut(),
            39..42 => drop(self.expire()),
            _ => self.crash_warm(),
        }
    }

    fn finish(mut self) {
        self.propose();
        let end = self.log.end();
        for node in [&mut self.hot, &mut self.warm] {
            node.state.commit(end).unwrap();
            assert_eq!(node.state.uncommitted_size_bytes(), 0);
        }
        self.check();
        let digests = [&self.hot, &self.warm].map(|node| node.state.feeder().digest().unwrap());
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0].key_count, self.keys_at(end).len() as u64);
        assert_eq!(self.hot.state.lag_size_bytes(), 0);
        // Everything that has expired goes by itself, and everything else stays.
        let gone = |entry: &Entry| entry.expires_at_ms.is_some_and(|at| at <= self.now_ms);
        let mut expected = self.keys_at(end).clone();
        let expired = expected.extract_if(.., |_, entry| gone(entry)).count();
        assert_eq!(self.expire(), expired);
        self.propose();
        let end = self.log.end();
        for node in [&mut self.hot, &mut self.warm] {
            node.state.commit(end).unwrap();
            assert_eq!(node.state.committed_view(0).len(), expected.len() as u64);
            let feeder = node.state.feeder();
            feeder.feed().unwrap();
            while feeder.count().unwrap() {}
            let expiries: Vec<u64> = expected.values().filter_map(|entry| entry.expires_at_ms).collect();
            let mean_ms = expiries.iter().sum::<u64>().checked_div(expiries.len() as u64).unwrap_or(0);
            let ttl_ms_mean = mean_ms.saturating_sub(node.state.committed_stamp_ms());
            let counts = KeyCounts { keys: expected.len() as u64, expiring: expiries.len() as u64, ttl_ms_mean };
            assert_eq!(feeder.key_counts(), counts);
            assert!(node.state.next_expiry_ms() <= expiries.into_iter().min().unwrap_or(u64::MAX));
        }
        assert_eq!(self.hot.state.expire(self.now_ms, usize::MAX).unwrap(), 0);
    }
}

fn check_view(view: &mut dyn Keyspace, model: &Keys, now_ms: u64) {
    let live = |entry: &&Entry| entry.expires_at_ms.is_none_or(|at| at > now_ms);
    for number in 0..14_u8 {
        let key = [b'k', number];
        let expected = model.get(&key[..]).filter(live).cloned();
        assert_eq!(view.get(&key), expected, "{key:?} at {now_ms}");
        if let Some(entry) = model.get(&key[..]) {
            assert_eq!(view.version(&key), entry.version);
        }
    }
    assert_eq!(view.len(), model.len() as u64);
    let expected: Vec<Bytes> = model.iter().filter(|(_, entry)| live(entry)).map(|(key, _)| key.clone()).collect();
    assert_eq!(walk_all(view), expected);
}

#[test]
fn two_states_behind_one_log_are_what_a_plain_map_would_be() {
    let seeds = std::env::var("HOTWARM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..300 {
                world.step();
            }
            world.finish();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
