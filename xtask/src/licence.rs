//! Whether a licence expression is satisfied by a list of allowed licences.
//!
//! SPDX expressions (SPDX specification 2.3, annex D): `OR`, `AND`, `WITH` and brackets, `AND` binding closer. The old
//! `/` counts as `OR`. An expression that cannot be read is not satisfied.

/// Whether some choice of the expression's alternatives needs allowed licences only.
pub fn is_satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let satisfied = either(&mut rest, allowed);
    satisfied == Some(true) && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut satisfied = both(words, allowed)?;
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        satisfied |= both(words, allowed)?;
    }
    Some(satisfied)
}

fn both(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut satisfied = single(words, allowed)?;
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        satisfied &= single(words, allowed)?;
    }
    Some(satisfied)
}

fn single(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let satisfied = either(words, allowed)?;
        let (close, rest) = words.split_first()?;
        *words = rest;
        return (*close == ")").then_some(satisfied);
    }
    let mut name = (*first).to_owned();
    if words.first() == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(1)?);
        *words = &words[2..];
    }
    (![")", "OR", "AND", "WITH"].contains(first)).then(|| allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_alternative_is_enough_and_every_part_of_a_whole_is_needed() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(ToOwned::to_owned);
        for (expression, satisfied) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 OR GPL-3.0 OR MIT", true),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("ISC AND GPL-3.0 OR MIT", true),
            ("ISC AND (GPL-3.0 OR Zlib)", false),
            ("MIT AND GPL-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT WITH something", false),
        ] {
            assert_eq!(is_satisfied(expression, &allowed), satisfied, "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_satisfied() {
        let allowed = ["MIT".to_owned()];
        for expression in ["", "(MIT", "MIT)", "MIT OR", "OR MIT", "MIT MIT", "MIT WITH"] {
            assert!(!is_satisfied(expression, &allowed), "{expression}");
        }
    }
}
