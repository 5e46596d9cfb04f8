//! What the documents claim, against the code: tables (R40), paths, commands, configuration.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use hotwarm_node::config::File;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The first cells of the rows of a table in the section of this title.
fn first_cells(title: &str) -> Vec<String> {
    let section = ARCHITECTURE.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()).collect()
}

#[test]
fn the_table_of_transitions_is_that_of_the_code() {
    assert!(
        ARCHITECTURE.contains(&hotwarm_core::register::markdown()),
        "put this in:\n{}",
        hotwarm_core::register::markdown()
    );
}

#[test]
fn the_table_of_messages_has_each_message_once_in_the_order_of_the_code() {
    let source = read("crates/hotwarm-core/src/message.rs");
    let names = source.split("fn name(").nth(1).unwrap();
    let names: Vec<String> =
        names.lines().filter_map(|line| line.split("=> \"").nth(1)?.split('"').next()).map(ToOwned::to_owned).collect();
    assert_eq!(first_cells("Every message"), names);
}

#[test]
fn every_invariant_and_rule_has_its_row() {
    let invariants: Vec<String> = (1..=12).map(|number| format!("INV-{number}")).collect();
    assert_eq!(first_cells("Where each invariant is kept"), invariants);
    let rules: Vec<String> = (1..=40).map(|number| format!("R{number}")).collect();
    assert_eq!(first_cells("Where each rule is kept"), rules);
}

#[test]
fn every_path_in_the_documents_exists() {
    let quoted = ARCHITECTURE.split('`').skip(1).step_by(2);
    let paths: BTreeSet<&str> =
        quoted.filter(|text| text.starts_with("hotwarm") && text.contains('/') && !text.contains(' ')).collect();
    assert!(paths.len() > 60, "{}", paths.len());
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join("crates").join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for line in read("README.md").lines() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(root().join(link).exists(), "README names {link}");
        }
    }
}

#[test]
fn where_a_rule_is_said_to_be_kept_it_is_cited() {
    let numbered = |name: &str| -> bool {
        let number = name.strip_prefix("INV-").or_else(|| name.strip_prefix('R'));
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    let mut uncited = Vec::new();
    for row in ARCHITECTURE.lines().filter(|line| line.starts_with("| ")) {
        let name = row.split('|').nth(1).unwrap().trim();
        if !numbered(name) {
            continue;
        }
        let paths = row.split('`').skip(1).step_by(2).filter(|path| path.starts_with("hotwarm"));
        let sources: String = paths.map(|path| read(&format!("crates/{path}"))).collect();
        let mut words = sources.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        if !words.any(|word| word == name) {
            uncited.push(name);
        }
    }
    assert!(uncited.is_empty(), "said to be kept where nothing cites them: {uncited:?}");
}

#[test]
fn every_command_is_in_its_page_and_no_other() {
    let page = read("docs/commands.md");
    let told: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_ascii_lowercase)
        .collect();
    let known: BTreeSet<String> =
        hotwarm_store::command::COMMANDS.iter().map(|command| command.name.to_owned()).collect();
    assert_eq!(told, known);
    for command in hotwarm_store::command::COMMANDS {
        assert!(page.contains(command.summary), "{}: {}", command.name, command.summary);
    }
}

#[test]
fn the_example_of_the_configuration_page_is_sound() {
    let page = read("docs/configuration.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = File::parse(example, Path::new("docs/configuration.md")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(file.warnings, Vec::new());
}

#[test]
fn the_first_code_block_of_the_readme_is_two_commands() {
    let page = read("README.md");
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = block.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands, ["cargo run --release --package hotwarm -- demo", "cargo xtask test"]);
}
