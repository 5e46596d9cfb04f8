//! The state machine of the simulated group: a few keys, and sessions under which a write is executed once (R34).
//!
//! Small on purpose: a whole copy is a memcpy, so that snapshots, overlays and comparisons after every commit cost
//! nothing. The log carries effects, never commands (R32).

use hotwarm_types::{Block, BlockKind, Lsn, Payload};

/// Keys. The lower half are registers (each write has a value of its own), the upper half are counters.
pub const KEYS: usize = 12;
/// First key that is a counter.
pub const COUNTERS_FROM: u8 = 8;
/// Sessions, one for each client.
pub const SESSIONS: usize = 8;

/// What a client wants written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Set a register to a value that no other write uses.
    Set {
        /// The register.
        key: u8,
        /// The value.
        value: u64,
    },
    /// Add one to a counter; the reply is the sum.
    Increment {
        /// The counter.
        key: u8,
    },
}

impl Command {
    /// The key it writes.
    #[must_use]
    pub fn key(self) -> u8 {
        match self {
            Self::Set { key, .. } | Self::Increment { key } => key,
        }
    }
}

/// What a write did: one position of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whose it is.
    pub session: u32,
    /// The number of the command in its session.
    pub seq: u32,
    /// The key.
    pub key: u8,
    /// Its new value, and the reply.
    pub value: u64,
}

const EFFECT_SIZE_BYTES: usize = 17;

/// Encodes effects as the payload of a block.
#[must_use]
pub fn encode(effects: &[Effect]) -> Payload {
    let mut bytes = Vec::with_capacity(effects.len() * EFFECT_SIZE_BYTES);
    for effect in effects {
        bytes.extend_from_slice(&effect.session.to_le_bytes());
        bytes.extend_from_slice(&effect.seq.to_le_bytes());
        bytes.push(effect.key);
        bytes.extend_from_slice(&effect.value.to_le_bytes());
    }
    Payload::new(&bytes)
}

/// The effects of a block; none for the start of an epoch.
pub fn effects(block: &Block) -> impl Iterator<Item = (Lsn, Effect)> + '_ {
    let bytes: &[u8] = if block.kind == BlockKind::Data { &block.payload } else { &[] };
    bytes.chunks_exact(EFFECT_SIZE_BYTES).enumerate().map(|(index, chunk)| {
        let word = |at: usize| u32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]]);
        let value = u64::from(word(9)) | u64::from(word(13)) << 32;
        (block.first.plus(index as u64), Effect { session: word(0), seq: word(4), key: chunk[8], value })
    })
}

/// The last command of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Its number; 0 before the first.
    pub seq: u32,
    /// Its reply.
    pub reply: u64,
    /// Where it stands in the log.
    pub lsn: Lsn,
}

/// The state at one position of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// The values; 0 before the first write.
    pub values: [u64; KEYS],
    /// The sessions.
    pub sessions: [Session; SESSIONS],
    /// The last position applied.
    pub applied: Lsn,
    /// Group time of the last block applied (R35).
    pub stamp_ms: u64,
}

impl Store {
    /// Applies a block that follows directly on what is applied.
    pub fn apply(&mut self, block: &Block) {
        for (lsn, effect) in effects(block) {
            self.apply_effect(lsn, effect);
        }
        self.applied = block.last;
        self.stamp_ms = block.stamp_ms;
    }

    /// Applies one effect.
    pub fn apply_effect(&mut self, lsn: Lsn, effect: Effect) {
        self.values[usize::from(effect.key)] = effect.value;
        self.sessions[effect.session as usize] = Session { seq: effect.seq, reply: effect.value, lsn };
    }

    /// What a command would do to this state.
    #[must_use]
    pub fn execute(&self, session: u32, seq: u32, command: Command) -> Effect {
        let value = match command {
            Command::Set { value, .. } => value,
            Command::Increment { key } => self.values[usize::from(key)] + 1,
        };
        Effect { session, seq, key: command.key(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotwarm_types::Epoch;

    #[test]
    fn effects_survive_their_encoding() {
        let written = [
            Effect { session: 1, seq: 2, key: 3, value: u64::MAX - 7 },
            Effect { session: 4, seq: 5, key: 11, value: 1 << 40 },
        ];
        let block = Block {
            kind: BlockKind::Data,
            epoch: Epoch(1),
            first: Lsn(5),
            last: Lsn(6),
            stamp_ms: 9,
            payload: encode(&written),
        };
        let read: Vec<_> = effects(&block).collect();
        assert_eq!(read, [(Lsn(5), written[0]), (Lsn(6), written[1])]);
        let mut store = Store::default();
        store.apply(&block);
        assert_eq!((store.applied, store.values[3], store.sessions[4].seq), (Lsn(6), u64::MAX - 7, 5));
    }
}
