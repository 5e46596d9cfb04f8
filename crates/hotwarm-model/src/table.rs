//! Parts of states, each kept once.
//!
//! The states of a system of several nodes are mostly new combinations of old parts: a node that is in some state in a
//! million states of the system is kept, hashed and compared once. A state is then a handful of numbers (Holzmann, "State
//! compression in SPIN", 1997: collapse).

use crate::fingerprint::{self, AsIs};
use core::hash::{BuildHasherDefault, Hash};
use core::ops::Index;
use std::collections::HashMap;
use std::rc::Rc;

/// Values by number, and their numbers. Equal fingerprints are taken for equal values.
#[derive(Debug)]
pub struct Table<T> {
    numbers: HashMap<u128, u32, BuildHasherDefault<AsIs>>,
    values: Vec<Option<Rc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), values: Vec::new() }
    }
}

impl<T: Hash> Table<T> {
    /// The number of a value; it gets one if it is new. The same values in the same order get the same numbers.
    ///
    /// # Panics
    /// Past 2^32 values.
    pub fn number(&mut self, value: T) -> u32 {
        let next = u32::try_from(self.values.len()).expect("fewer than 2^32 parts fit into memory");
        let number = *self.numbers.entry(fingerprint::of(&value)).or_insert(next);
        if number == next {
            self.values.push(Some(Rc::new(value)));
        } else if let Some(place @ None) = self.values.get_mut(number as usize) {
            *place = Some(Rc::new(value));
        }
        number
    }

    /// How many values have a number.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Frees the values that no state to be visited has in it. Their numbers stay theirs.
    pub fn keep(&mut self, in_use: impl Fn(u32) -> bool) {
        for (number, value) in self.values.iter_mut().enumerate() {
            if !in_use(number as u32) {
                *value = None;
            }
        }
    }
}

impl<T> Index<u32> for Table<T> {
    type Output = Rc<T>;

    /// # Panics
    /// If the value was freed: a state that is to be visited has it no more.
    fn index(&self, number: u32) -> &Rc<T> {
        self.values[number as usize].as_ref().expect("a part of a state to be visited is kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_freed_comes_back_under_its_number() {
        let mut table = Table::default();
        let (first, second) = (table.number("first"), table.number("second"));
        assert_eq!((first, second, table.number("first")), (0, 1, 0));
        table.keep(|number| number == second);
        assert_eq!(table.number("first"), first);
        assert_eq!((*table[first], *table[second], table.count()), ("first", "second", 2));
    }
}
