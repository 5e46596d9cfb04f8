//! The scenes of the register: two that are small enough to be visited whole, and those that are looked at as deep as time allows.

use super::scene::Intent::{Admit, Bump, Configure, Promote, Read, Remove};
use super::scene::{Budget, Scene};

/// All of them.
pub const SCENES: [Scene; 8] = [
    Scene {
        name: "duel",
        about: "two nodes change one version",
        invited: None,
        wishes: &[&[Configure], &[Promote]],
        budget: Budget { crashes: 0, restarts: 0, waits: 0 },
    },
    Scene {
        name: "rivals",
        about: "two nodes change one version; an acceptor crashes; a proposer is restarted in the middle",
        invited: None,
        wishes: &[&[Configure, Bump], &[Promote]],
        budget: Budget { crashes: 1, restarts: 1, waits: 0 },
    },
    Scene {
        name: "three",
        about: "three proposers at once: two changes and a read",
        invited: None,
        wishes: &[&[Configure], &[Promote], &[Read]],
        budget: Budget { crashes: 0, restarts: 0, waits: 1 },
    },
    Scene {
        name: "lost",
        about: "a change whose replies are lost, a restart, and a read or a bump that settles what was left behind",
        invited: None,
        wishes: &[&[Configure, Read], &[Bump]],
        budget: Budget { crashes: 0, restarts: 1, waits: 1 },
    },
    Scene {
        name: "members",
        about: "a fourth acceptor is admitted and one of the old ones removed, while another node takes over",
        invited: Some(None),
        wishes: &[&[Admit, Remove("c")], &[Promote]],
        budget: Budget { crashes: 0, restarts: 0, waits: 0 },
    },
    Scene {
        name: "swap",
        about: "one proposer admits a fourth acceptor and then removes an old one, without a rival: every order there is",
        invited: Some(None),
        wishes: &[&[Admit, Remove("c")]],
        budget: Budget { crashes: 0, restarts: 0, waits: 0 },
    },
    Scene {
        name: "relay",
        about: "one proposer is restarted in the middle of a change, and settles what was left behind by a bump: every order there is",
        invited: None,
        wishes: &[&[Configure, Bump]],
        budget: Budget { crashes: 0, restarts: 1, waits: 0 },
    },
    Scene {
        name: "replace",
        about: "an acceptor is replaced by a new one, while another node takes over from the old list",
        invited: Some(Some("c")),
        wishes: &[&[Admit, Admit], &[Promote]],
        budget: Budget { crashes: 0, restarts: 1, waits: 0 },
    },
];
