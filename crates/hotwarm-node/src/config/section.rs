//! Reads one table of a TOML document key by key, and remembers what was asked for: whatever is left at the end is
//! unknown, and the fault names the nearest key that is known.
//!
//! It knows nothing of hotwarm's keys. Faults are gathered, not returned: reading goes on after each, so that an
//! operator sees all of them at once.

use super::fault::Fault;
use super::units;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The document that is being read, and what was found wrong with it so far.
pub(super) struct Document<'t> {
    text: &'t str,
    faults: RefCell<Vec<Fault>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, faults: RefCell::new(Vec::new()) }
    }

    /// The line that holds the byte at `offset`, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let upto = offset.min(self.text.len());
        1 + self.text.as_bytes()[..upto].iter().filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn fault(&self, line: usize, text: impl Into<String>) {
        self.faults.borrow_mut().push(Fault { line, text: text.into() });
    }

    /// All faults, in the order of the file.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }
}

/// A value with the line it stands on.
#[derive(Clone, Debug)]
pub(super) struct Told<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// One table, partly read.
pub(super) struct Section<'d, 't> {
    document: &'d Document<'t>,
    /// Its place in the document, `group.main`; empty for the document itself.
    pub(super) path: String,
    pub(super) line: usize,
    table: &'d DeTable<'t>,
    asked: Vec<&'static str>,
}

impl<'d, 't> Section<'d, 't> {
    pub(super) fn root(document: &'d Document<'t>, table: &'d DeTable<'t>) -> Self {
        Self { document, path: String::new(), line: 0, table, asked: Vec::new() }
    }

    pub(super) fn fault(&self, line: usize, text: impl Into<String>) {
        self.document.fault(line, text);
    }

    /// Where a key stands, for faults that are found after reading; the section's own line if it is absent.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map_or(self.line, |(name, _)| self.document.line(name.span().start))
    }

    fn take(&mut self, key: &'static str) -> Option<Told<&'d DeValue<'t>>> {
        self.asked.push(key);
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Told { value: value.get_ref(), line: self.line_of(key) })
    }

    fn wrong<T>(&self, key: &str, told: &Told<&DeValue<'_>>, wanted: &str) -> Option<T> {
        self.fault(told.line, format!("{key} = {} must be {wanted}", shown(told.value)));
        None
    }

    /// Whether a key is there at all; it still counts as unknown until it is read.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// A string that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Told<String>> {
        let told = self.take(key)?;
        match told.value.as_str() {
            Some(text) if !text.is_empty() => Some(Told { value: text.to_owned(), line: told.line }),
            _ => self.wrong(key, &told, "a string that is not empty"),
        }
    }

    /// A string that `read` understands; `wanted` says what that is.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Told<T>> {
        let told = self.take(key)?;
        match told.value.as_str().and_then(read) {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, wanted),
        }
    }

    /// One of a few words. A word of `later` is refused as one that this version does not have.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<Told<T>> {
        let told = self.take(key)?;
        let text = told.value.as_str();
        if let Some((_, value)) = words.iter().find(|(word, _)| Some(*word) == text) {
            return Some(Told { value: *value, line: told.line });
        }
        let known = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        if later.iter().any(|word| Some(*word) == text) {
            let reason = format!("{key} = {} is not in this version, which has {known}", shown(told.value));
            self.fault(told.line, reason);
            return None;
        }
        self.wrong(key, &told, &known)
    }

    /// A duration within `range`.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Told<Duration>> {
        let told = self.take(key)?;
        let wanted = format!(
            "a duration from {} to {}",
            units::duration_text(*range.start()),
            units::duration_text(*range.end())
        );
        match told.value.as_str().and_then(units::duration).filter(|length| range.contains(length)) {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, &wanted),
        }
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<Told<u64>> {
        let told = self.take(key)?;
        let wanted = format!("a size from {} to {}", units::size_text(*range.start()), units::size_text(*range.end()));
        match told.value.as_str().and_then(units::size).filter(|bytes| range.contains(bytes)) {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, &wanted),
        }
    }

    /// A whole number within `range`.
    pub(super) fn whole(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<Told<u64>> {
        let told = self.take(key)?;
        let number = told.value.as_integer().and_then(|int| u64::from_str_radix(int.as_str(), int.radix()).ok());
        match number.filter(|number| range.contains(number)) {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, &format!("a whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<Told<bool>> {
        let told = self.take(key)?;
        match told.value.as_bool() {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, "true or false"),
        }
    }

    /// A list of strings that is not empty.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Told<Vec<String>>> {
        let told = self.take(key)?;
        let list: Option<Vec<String>> = told.value.as_array().and_then(|array| {
            array.iter().map(|item| item.get_ref().as_str().map(ToOwned::to_owned)).collect::<Option<Vec<_>>>()
        });
        match list.filter(|list| !list.is_empty()) {
            Some(value) => Some(Told { value, line: told.line }),
            None => self.wrong(key, &told, "a list of strings that is not empty"),
        }
    }

    /// A table under a fixed name.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'d, 't>> {
        let told = self.take(key)?;
        let line = told.line;
        match told.value.as_table() {
            Some(table) => Some(self.child(key, line, table)),
            None => self.wrong(key, &told, "a table"),
        }
    }

    /// The tables under a key whose names the operator chooses: `[group.NAME]`.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(String, Section<'d, 't>)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, value) in parent.table {
            let line = self.document.line(name.span().start);
            match value.get_ref().as_table() {
                Some(table) => found.push((name.get_ref().to_string(), parent.child(name.get_ref(), line, table))),
                None => self.fault(line, format!("{key}.{} must be a table", name.get_ref())),
            }
        }
        found.sort_by_key(|(_, section)| section.line);
        found
    }

    fn child(&self, key: &str, line: usize, table: &'d DeTable<'t>) -> Section<'d, 't> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Section { document: self.document, path, line, table, asked: Vec::new() }
    }

    /// Refuses keys that only later versions have, by name.
    pub(super) fn refuse_later(&mut self, later: &[(&'static str, &str)]) {
        for (key, what) in later {
            if self.take(key).is_some() {
                let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
                let text = format!("{key}{place}: {what} not in this version of hotwarm; remove it");
                self.fault(self.line_of(key), text);
            }
        }
    }

    /// Ends the reading: every key that nobody asked for is unknown.
    pub(super) fn close(self) {
        for (name, _) in self.table {
            let key = name.get_ref();
            if self.asked.contains(&key.as_ref()) {
                continue;
            }
            let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            let line = self.document.line(Spanned::span(name).start);
            match nearest(key, &self.asked) {
                Some(known) => self.fault(line, format!("unknown key \"{key}\"{place}; did you mean \"{known}\"?")),
                None => self.fault(line, format!("unknown key \"{key}\"{place}; it has {}", self.asked.join(", "))),
            }
        }
    }
}

/// A value as it may stand in a fault, cut short.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let mut cut: String = text.chars().take(60).collect();
            if cut.len() < text.len() {
                cut.push_str("...");
            }
            format!("{cut:?}")
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".to_owned(),
        DeValue::Table(_) => "{...}".to_owned(),
    }
}

/// The known word that differs least from `word`, if it differs little enough to have been meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = 1 + word.chars().count() / 4;
    let best = known.iter().map(|candidate| (edits(word, candidate), *candidate)).min()?;
    (best.0 <= limit).then_some(best.1)
}

/// How many letters must be put in, taken out or changed to make `a` into `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_only_when_it_is_near() {
        let known = ["listen", "password_file", "reads", "to"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("password-file", &known), Some("password_file"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn a_line_is_counted_from_one() {
        let document = Document::new("a\nb\nc");
        assert_eq!((document.line(0), document.line(2), document.line(4), document.line(99)), (1, 2, 3, 3));
    }
}
