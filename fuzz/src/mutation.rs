//! Seeded mutations of examples, for a search without coverage: the same seed, the same inputs, on every machine.

/// SplitMix64. Source: Steele, Lea, Flood 2014.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides.max(1) as u64) as usize
    }
}

/// Numbers at the edges of what fields hold.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// A generator of inputs.
#[derive(Clone, Debug)]
pub struct Mutation {
    dice: Dice,
}

impl Mutation {
    /// The generator that `seed` names.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice(seed) }
    }

    /// An input made of one or two of the `examples`, at most `size_bytes_max` long.
    ///
    /// # Panics
    /// Without examples.
    pub fn next(&mut self, examples: &[Vec<u8>], size_bytes_max: usize) -> Vec<u8> {
        let mut input = examples[self.dice.roll(examples.len())].clone();
        for _ in 0..=self.dice.roll(4) {
            let other = &examples[self.dice.roll(examples.len())];
            self.change(&mut input, other);
        }
        input.truncate(size_bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.dice.roll(input.len() + 1);
        let length = self.dice.roll(16) + 1;
        let end = (at + length).min(input.len());
        match self.dice.roll(8) {
            0 if at < input.len() => input[at] ^= 1 << self.dice.roll(8),
            1 if at < input.len() => input[at] = self.dice.roll(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            4 => {
                let edge = EDGES[self.dice.roll(EDGES.len())].to_le_bytes();
                let size = [1, 2, 4, 8][self.dice.roll(4)];
                let end = (at + size).min(input.len());
                input.splice(at..end, edge[..size].iter().copied());
            }
            5 => {
                let from = self.dice.roll(other.len() + 1);
                let until = (from + self.dice.roll(64)).min(other.len());
                input.splice(at..end, other[from..until].iter().copied());
            }
            6 => input.truncate(at),
            _ => input.insert(at, self.dice.roll(256) as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_inputs_and_another_gives_others() {
        let examples = [b"one example".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut mutation = Mutation::new(seed);
            (0..100).map(|_| mutation.next(&examples, 20)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= 20));
    }
}
