//! Histories from a real sequential model with random delays, and small harms done to them.

use hotwarm_history::{Call, Outcome};

/// splitmix64: one seed, one sequence (Steele, Lea and Flood, 2014).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Calls of `clients` clients, one open each: every call takes effect at a moment of its own between its beginning and
/// its end. `draw` draws an operation; `effect` applies it to the one true state, and answers. Of a hundred calls,
/// `unknown` are given up, half of them without effect, and as many are refused.
pub fn generate<O: Clone, S>(
    rng: &mut Rng,
    clients: u32,
    count: usize,
    unknown: u64,
    mut draw: impl FnMut(&mut Rng) -> O,
    mut effect: impl FnMut(&O) -> S,
) -> Vec<Call<O, S>> {
    // (moment of the effect, call without its answer, end, kind)
    let mut planned = Vec::new();
    let mut free_at: Vec<u64> = (0..clients).map(|_| rng.below(20)).collect();
    for _ in 0..count {
        let client = rng.below(u64::from(clients)) as usize;
        let from = free_at[client] + 1 + rng.below(10);
        let effect_at = from + rng.below(30);
        let to = effect_at + rng.below(30);
        free_at[client] = to + 1;
        planned.push((effect_at, client as u32, from, to, draw(rng), rng.below(100)));
    }
    planned.sort_by_key(|(at, client, ..)| (*at, *client));
    planned
        .into_iter()
        .map(|(_, client, invoked_at, at, operation, lot)| {
            let outcome = if lot < unknown {
                if lot % 2 == 0 {
                    effect(&operation);
                }
                Outcome::Unknown
            } else if lot < 2 * unknown {
                Outcome::Failed
            } else {
                Outcome::Returned { at, seen: effect(&operation) }
            };
            Call { client, invoked_at, operation, outcome }
        })
        .collect()
}
