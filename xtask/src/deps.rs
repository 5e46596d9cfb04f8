//! The dependency gate: layers of our own packages, licences and bans of all others.
//!
//! Each package of ours states its layer in `[package.metadata.hotwarm]`; an arrow leads to a smaller one. Beyond the
//! numbers: log and store never lead to the core, and the types and the core depend on nothing that is not ours.
//! Licences and bans are those of `deny.toml`, so that the gate needs no plugin and cargo-deny says the same.

use crate::licence::is_satisfied;
use crate::tools::{cargo, output, root};
use serde_json::Value;
use std::collections::BTreeMap;

/// Packages that must not lead to the core, by no kind of dependency: they know positions and bytes, not roles.
const APART_FROM_CORE: [&str; 2] = ["hotwarm-log", "hotwarm-store"];
/// Packages that depend on nothing that is not ours, save in tests.
const BARE: [&str; 2] = ["hotwarm-types", "hotwarm-core"];

/// A package of ours.
#[derive(Debug)]
struct Package {
    name: String,
    layer: Option<u64>,
    /// What it depends on, and whether in tests only.
    needs: Vec<(String, bool)>,
}

/// What deny.toml allows and forbids.
#[derive(Debug, Default)]
struct Rules {
    licences: Vec<String>,
    banned: BTreeMap<String, String>,
}

/// Checks everything and prints what is wrong.
pub fn check() -> Result<(), String> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let ours = packages(&metadata);
    let rules = rules(&std::fs::read_to_string(root().join("deny.toml")).map_err(|error| error.to_string())?)?;
    let mut wrong = layers(&ours);
    // What is built and linked, tests aside, with the features that are really on.
    let tree = output(cargo().args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]))?;
    let others = others(&tree);
    wrong.extend(judge(&others, &rules));
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() {
        println!("{} packages of ours, {} of others: layers, licences and bans are kept", ours.len(), others.len());
        return Ok(());
    }
    Err(format!("{} rules of dependencies are broken", wrong.len()))
}

fn packages(metadata: &Value) -> Vec<Package> {
    let texts = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|package| Package {
            name: texts(&package["name"]),
            layer: package["metadata"]["hotwarm"]["layer"].as_u64(),
            needs: package["dependencies"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
                .iter()
                .map(|need| (texts(&need["name"]), need["kind"] == "dev"))
                .collect(),
        })
        .collect()
}

fn layers(ours: &[Package]) -> Vec<String> {
    let layer_of: BTreeMap<&str, Option<u64>> =
        ours.iter().map(|package| (package.name.as_str(), package.layer)).collect();
    let mut wrong = Vec::new();
    for Package { name, layer, needs } in ours {
        let Some(layer) = layer else {
            wrong.push(format!("{name} states no layer in [package.metadata.hotwarm]"));
            continue;
        };
        for (need, in_tests) in needs {
            match layer_of.get(need.as_str()) {
                Some(_) if APART_FROM_CORE.contains(&name.as_str()) && need == "hotwarm-core" => {
                    wrong.push(format!("{name} depends on {need}: they are siblings and must not know each other"));
                }
                Some(Some(below)) if below >= layer && !in_tests => {
                    wrong
                        .push(format!("{name} (layer {layer}) depends on {need} (layer {below}): arrows go down only"));
                }
                Some(_) => {}
                None if BARE.contains(&name.as_str()) && !in_tests => {
                    wrong.push(format!("{name} depends on {need}: it may depend on nothing that is not ours"));
                }
                None => {}
            }
        }
    }
    wrong
}

/// Names and licences from `cargo tree`, ours left out.
fn others(tree: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (package, licence) in tree.lines().filter_map(|line| line.split_once('|')) {
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        // A package of ours is followed by its path.
        if !package.contains("(/") {
            let licence = licence.trim_end_matches("(*)").trim().to_owned();
            found.insert(format!("{name} {version}"), licence);
        }
    }
    found
}

fn judge(others: &BTreeMap<String, String>, rules: &Rules) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, licence) in others {
        let name = package.split(' ').next().unwrap_or_default();
        if let Some(reason) = rules.banned.get(name) {
            wrong.push(format!("{package} is banned: {reason}"));
        }
        if !is_satisfied(licence, &rules.licences) {
            wrong.push(format!("{package} has the licence {licence:?}, which deny.toml does not allow"));
        }
    }
    wrong
}

fn rules(text: &str) -> Result<Rules, String> {
    let table: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
    let list = |section: &str, key: &str| -> Result<Vec<toml::Value>, String> {
        let list = table.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
        list.cloned().ok_or_else(|| format!("deny.toml has no list {key} in [{section}]"))
    };
    let mut rules = Rules::default();
    for licence in list("licenses", "allow")? {
        rules.licences.push(licence.as_str().ok_or("deny.toml: a licence is not a string")?.to_owned());
    }
    for ban in list("bans", "deny")? {
        let text = |key: &str| ban.get(key).and_then(toml::Value::as_str).map(ToOwned::to_owned);
        let name = text("crate").ok_or("deny.toml: a ban names no crate")?;
        rules.banned.insert(name, text("reason").ok_or("deny.toml: a ban gives no reason")?);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, layer: u64, needs: &[(&str, bool)]) -> Package {
        let needs = needs.iter().map(|(need, in_tests)| ((*need).to_owned(), *in_tests)).collect();
        Package { name: name.to_owned(), layer: Some(layer), needs }
    }

    #[test]
    fn arrows_go_down_only() {
        let types = || package("hotwarm-types", 0, &[]);
        let core = || package("hotwarm-core", 1, &[("hotwarm-types", false)]);
        let sound = [types(), core(), package("hotwarm-log", 2, &[("hotwarm-types", false), ("rustix", false)])];
        assert_eq!(layers(&sound), Vec::<String>::new());
        for (broken, wanted) in [
            (package("hotwarm-wire", 1, &[("hotwarm-core", false)]), "arrows go down only"),
            (package("hotwarm-log", 2, &[("hotwarm-core", true)]), "siblings"),
            (package("hotwarm-core", 1, &[("serde", false)]), "nothing that is not ours"),
            (Package { layer: None, ..package("hotwarm-new", 0, &[]) }, "states no layer"),
        ] {
            let wrong = layers(&[types(), core(), broken]);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].contains(wanted), "{wrong:?}");
        }
    }

    #[test]
    fn licences_and_bans_are_read_from_the_tree() {
        let others =
            others("xtask v0.1.0 (/a/b)|MIT\nserde v1.0.1|MIT OR Apache-2.0\nbincode v3.0.0 (*)|GPL-3.0 (*)\n");
        assert_eq!(others.len(), 2);
        let text = "[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = [{ crate = \"bincode\", reason = \"unmaintained\" }]";
        let wrong = judge(&others, &rules(text).unwrap());
        assert_eq!(
            wrong,
            [
                "bincode v3.0.0 is banned: unmaintained",
                "bincode v3.0.0 has the licence \"GPL-3.0\", which deny.toml does not allow"
            ]
        );
    }

    #[test]
    fn the_rules_of_the_project_can_be_read() {
        let rules = rules(include_str!("../../deny.toml")).unwrap();
        assert!(rules.licences.contains(&"MIT".to_owned()) && rules.banned.contains_key("bincode"));
    }
}
