//! Damage to files at rest: single bits flipped, files cut short, pages zeroed or written to another's place, and files of
//! another cluster in the place of one's own. Whatever reads them must refuse them by name, find the damage when it
//! reads that place, or read exactly what was written.

mod folder_files;
mod log_files;

use crate::log_loop::said;
use crate::random::Random;
use crate::report::{Damage, Failure, Outcomes};
use crate::share::Share;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

const PAGE_SIZE_BYTES: u64 = 4096;
const SECTOR_SIZE_BYTES: usize = 512;

/// Of the bits of a file that is drawn from, those in sectors that are all zeros are one in so many.
const BLANK_ONE_IN: u64 = 16;

/// One piece of damage to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// A bit turned over: its number in the file.
    Flip(u64),
    /// The file ends here, in bytes.
    CutShort(u64),
    /// A page of zeros: its number.
    Zeroed(u64),
    /// A page written where another belongs: from, to.
    Misplaced(u64, u64),
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip(bit) => write!(f, "byte {} bit {} flipped", bit / 8, bit % 8),
            Self::CutShort(size) => write!(f, "cut short to {size} bytes"),
            Self::Zeroed(page) => write!(f, "page {page} zeroed"),
            Self::Misplaced(from, to) => write!(f, "page {from} in the place of page {to}"),
        }
    }
}

impl Harm {
    /// The file after it; `None` if it is the same.
    fn done_to(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut harmed = bytes.to_vec();
        let page = |number: u64| {
            let start = (number * PAGE_SIZE_BYTES) as usize;
            start..(start + PAGE_SIZE_BYTES as usize).min(bytes.len())
        };
        match self {
            Self::Flip(bit) => harmed[(bit / 8) as usize] ^= 1 << (bit % 8),
            Self::CutShort(size) => harmed.truncate(size as usize),
            Self::Zeroed(number) => harmed[page(number)].fill(0),
            Self::Misplaced(from, to) => {
                let (from, to) = (page(from), page(to));
                let count = from.len().min(to.len());
                harmed[to.start..to.start + count].copy_from_slice(&bytes[from.start..from.start + count]);
            }
        }
        (harmed != bytes).then_some(harmed)
    }

    fn is_flip(self) -> bool {
        matches!(self, Self::Flip(_))
    }
}

/// What came of a piece of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nobody could start on it; what was said.
    Refused(String),
    /// It was found by who read that place.
    Detected,
    /// All that can be read is what was written.
    Harmless,
    /// What was read is not what was written.
    Wrong(String),
}

/// So many flips of a file, all of them if it has no more bits, and some other harm.
fn harms(bytes: &[u8], flips: u64, others: u64, random: &mut Random) -> Vec<Harm> {
    let sectors: Vec<&[u8]> = bytes.chunks(SECTOR_SIZE_BYTES).collect();
    let is_blank = |sector: &&[u8]| sector.iter().all(|byte| *byte == 0);
    let used: Vec<usize> = (0..sectors.len()).filter(|index| !is_blank(&sectors[*index])).collect();
    let bits = |index: usize| {
        let start = (index * SECTOR_SIZE_BYTES) as u64 * 8;
        start..start + sectors[index].len() as u64 * 8
    };
    let mut harms = Vec::new();
    let used_bits: u64 = used.iter().map(|index| sectors[*index].len() as u64 * 8).sum();
    if used_bits <= flips {
        harms.extend(used.iter().flat_map(|index| bits(*index)).map(Harm::Flip));
    } else {
        harms.extend((0..flips).map(|_| {
            let range = bits(used[random.below(used.len() as u64) as usize]);
            Harm::Flip(range.start + random.below(range.end - range.start))
        }));
    }
    if used.len() < sectors.len() {
        harms.extend((0..flips / BLANK_ONE_IN).map(|_| Harm::Flip(random.below(bytes.len() as u64 * 8))));
    }
    let pages = (bytes.len() as u64).div_ceil(PAGE_SIZE_BYTES);
    for _ in 0..if bytes.is_empty() { 0 } else { others } {
        harms.push(Harm::CutShort(random.below(bytes.len() as u64)));
        harms.push(Harm::Zeroed(random.below(pages)));
        harms.push(Harm::Misplaced(random.below(pages), random.below(pages)));
    }
    harms
}

/// Counts, and remembers what is wrong.
struct Tally {
    seed: u64,
    damage: Damage,
}

impl Tally {
    fn new(seed: u64) -> Self {
        Self { seed, damage: Damage::default() }
    }

    /// Carries out one case and takes note of its outcome. A refusal must name the file by `named` and say what to do.
    fn take(
        &mut self,
        kind: &str,
        case: u64,
        harm: &str,
        is_flip: bool,
        named: &[&str],
        try_it: impl FnOnce() -> Outcome,
    ) {
        let outcome = catch_unwind(AssertUnwindSafe(try_it));
        let all = if is_flip { &mut self.damage.flips } else { &mut self.damage.other };
        let counts: &mut Outcomes = all.entry(kind.to_owned()).or_default();
        let what = match outcome {
            Ok(Outcome::Refused(why)) => {
                counts.refused += 1;
                let is_named = named.iter().any(|name| why.contains(name));
                let has_way_out = ["replace", "begins anew", "recover"].iter().any(|way| why.contains(way));
                if is_named && has_way_out {
                    return;
                }
                format!("refused without the file or the way out: {why}")
            }
            Ok(Outcome::Detected) => {
                counts.detected += 1;
                return;
            }
            Ok(Outcome::Harmless) => {
                counts.harmless += 1;
                return;
            }
            Ok(Outcome::Wrong(what)) => what,
            Err(panic) => format!("a panic: {}", said(&*panic)),
        };
        let replay = format!("cargo xtask storage --part damage --seed {} --point {case}", self.seed);
        self.damage.failures.push(Failure { replay, what: format!("{kind}, {harm}: {what}") });
    }
}

/// Damages the share of all cases.
///
/// # Errors
/// The files to damage could not be made.
pub fn run(share: Share) -> Result<Damage, String> {
    let mut damage = Damage::default();
    for found in share.work(|worker| {
        let mut tally = Tally::new(share.seed);
        let cases = log_files::damage(share, worker, &mut tally)?;
        folder_files::damage(share, worker, cases, &mut tally)?;
        Ok::<_, String>(tally.damage)
    }) {
        damage.add(found?);
    }
    Ok(damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_flipped_in_every_bit() {
        let harms = harms(&[1; 100], 1_000, 2, &mut Random::new(1, 0));
        let mut bits: Vec<u64> =
            harms.iter().filter_map(|harm| if let Harm::Flip(bit) = harm { Some(*bit) } else { None }).collect();
        bits.dedup();
        assert_eq!(bits, (0..800).collect::<Vec<_>>());
        assert_eq!(harms.len(), 806);
    }

    #[test]
    fn harm_changes_the_bytes_it_names_and_no_others() {
        let bytes: Vec<u8> = (0..9_000_u32).map(|n| (n / 4096) as u8 + 1).collect();
        let flipped = Harm::Flip(8 * 5 + 1).done_to(&bytes).unwrap();
        assert_eq!((flipped[5], flipped[4], flipped.len()), (3, 1, 9_000));
        assert_eq!(Harm::CutShort(10).done_to(&bytes).unwrap().len(), 10);
        let zeroed = Harm::Zeroed(2).done_to(&bytes).unwrap();
        assert_eq!((zeroed[8191], zeroed[8192], zeroed.len()), (2, 0, 9_000));
        let moved = Harm::Misplaced(0, 2).done_to(&bytes).unwrap();
        assert_eq!((moved[8192], moved[8999], moved[8191]), (1, 1, 2));
        assert_eq!(Harm::Misplaced(1, 1).done_to(&bytes), None);
    }

    #[test]
    fn a_refusal_that_does_not_help_counts_as_wrong() {
        let mut tally = Tally::new(1);
        let mut take = |outcome: Outcome| tally.take("vote", 7, "harm", true, &["vote"], || outcome);
        take(Outcome::Refused("file \"vote\" is corrupt; replace this node".to_owned()));
        take(Outcome::Harmless);
        take(Outcome::Refused("something is corrupt; replace this node".to_owned()));
        take(Outcome::Wrong("less than was written".to_owned()));
        tally.take("vote", 8, "harm", true, &["vote"], || panic!("as a bug would"));
        assert_eq!(tally.damage.failures.len(), 3, "{:?}", tally.damage.failures);
        assert!(tally.damage.failures[0].replay.ends_with("--seed 1 --point 7"));
    }
}
