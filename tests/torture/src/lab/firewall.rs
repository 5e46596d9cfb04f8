//! What is dropped and turned away at a machine's network card, by nftables.

use super::Namespace;
use crate::tools::run_with;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// One thing that happens to what comes from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All of it is lost.
    Cut(Ipv4Addr),
    /// So much of it is lost, of a hundred packets.
    Lose(Ipv4Addr, u8),
    /// Its connections are reset, as by a middle box.
    Reset(Ipv4Addr),
}

/// The rules of one machine. Rules act where packets come in, so that each direction can be cut alone.
#[derive(Debug, Default)]
pub struct Firewall {
    in_force: bool,
}

impl Firewall {
    /// Puts these rules in the place of all before, at once.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn set(&mut self, namespace: &Namespace, rules: &[Rule]) -> Result<(), String> {
        if rules.is_empty() && !self.in_force {
            return Ok(());
        }
        let text = script(rules);
        let done = namespace.inside(|| run_with("nft", &["-f", "-"], &text));
        done.map_err(|error| format!("{}: {error}", namespace.name()))??;
        self.in_force = !rules.is_empty();
        Ok(())
    }
}

/// One transaction: the table is made if it is not there, emptied, and filled.
fn script(rules: &[Rule]) -> String {
    let mut text = String::from("table ip torture {}\nflush table ip torture\ntable ip torture {\n");
    text.push_str(" chain arrive {\n  type filter hook input priority 0; policy accept;\n");
    for rule in rules {
        // Writing to a string cannot fail.
        let _ = match rule {
            Rule::Cut(from) => writeln!(text, "  ip saddr {from} drop"),
            Rule::Lose(from, percent) => writeln!(text, "  ip saddr {from} numgen random mod 100 < {percent} drop"),
            Rule::Reset(from) => writeln!(text, "  ip saddr {from} meta l4proto tcp reject with tcp reset"),
        };
    }
    text.push_str(" }\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_replaces_everything_before() {
        let peer = Ipv4Addr::new(10, 77, 0, 2);
        let text = script(&[Rule::Cut(peer), Rule::Lose(peer, 5)]);
        assert!(text.starts_with("table ip torture {}\nflush table ip torture\n"), "{text}");
        assert!(
            text.contains("ip saddr 10.77.0.2 drop\n") && text.contains("numgen random mod 100 < 5 drop"),
            "{text}"
        );
        assert!(!script(&[]).contains("saddr"));
    }
}
